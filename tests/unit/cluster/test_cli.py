"""A mistake on the command line is one sentence that names the flag, and exit code 2; nothing is started."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cluster.cli import app, main
from tests.support.cluster import projectk


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["up", "--port", "abc"], "--port"),
        (["up", "--port", "70000"], "--port: input should be less than or equal to 65535"),
        (["up", "--port", "65535"], "--port: the last port would be 65536"),
        (["up", "--gameservers", "0"], "--gameservers: "),
        (["up", "--restart", "perhaps"], "--restart: input should be 'always' or 'never'"),
        (["up", "--nonsense"], "--nonsense"),
        (["up", "--gameservers", "1000"], "--gameservers: input should be less than or equal to 64"),
        (
            ["up", "--port", "0", "--ready-file", "/dev/null/x/ready.json"],
            "--ready-file /dev/null/x/ready.json: cannot be",
        ),
        (["up", "--port", "0", "--ready-file", "/"], "--ready-file /: is a folder"),
        (["up", "--host", "203.0.113.1"], "--host 203.0.113.1: cannot listen there"),
        (["gameserver", "--id", "gs4"], "--join: "),
        (["gameserver", "--id", "Fred!", "--join", "tcp://127.0.0.1:1"], "--node-id"),
        (["gateway", "--join", "nowhere"], "--join: 'nowhere' is no endpoint"),
        (["bots", "--count", "0"], "--count"),
        (["bots", "--url", "example"], "--url"),
        (["dance"], "dance"),
    ],
)
def test_a_mistake_is_one_sentence(words: list[str], said: str, tmp_path: Path) -> None:
    done = projectk(*words, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_a_busy_port_is_named_with_its_flag(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        done = projectk("up", "--port", str(port - 1), cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == f"projectk: --port: port {port} on 127.0.0.1 is in use; choose another, or 0 for free ones.\n"


def test_an_unwritable_data_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = projectk("up", "--port", "0", "--data", str(tmp_path / "file" / "var"), cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"projectk: --data {tmp_path / 'file' / 'var'}: cannot be written")


def test_a_data_folder_in_use_is_named_with_its_cluster(tmp_path: Path) -> None:
    program = f"""
import sys
from pathlib import Path
from cluster.supervisor.data import claim
with claim(Path({str(tmp_path)!r})):
    print("claimed", flush=True)
    sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "claimed\n"
        ready = tmp_path / "ready.json"
        ready.touch()
        done = projectk("up", "--port", "0", "--data", str(tmp_path), "--ready-file", str(ready), cwd=tmp_path)
        other.communicate("")
    assert done.returncode == 2
    assert f"a cluster (pid {other.pid}) is running on it" in done.stderr
    assert ready.exists(), "the running cluster's"


def test_a_misspelt_variable_starts_nothing(tmp_path: Path) -> None:
    done = projectk("up", cwd=tmp_path, PROJECTK_GATEWAY="3")
    assert done.returncode == 2
    assert done.stderr == (
        "projectk: PROJECTK_GATEWAY: there is no such setting; did you mean PROJECTK_GATEWAYS?\n"
    )  # fmt: skip


def test_help_teaches_every_verb_with_examples() -> None:
    runner, wide = CliRunner(), {"COLUMNS": "200"}
    assert "bots" in runner.invoke(app, ["--help"], env=wide).stdout
    operators = ("status", "drain", "handoff", "events", "deploy")
    for verb in ("up", "broker", "store", "login", "gateway", "gameserver", "bots", "reset", *operators):
        done = runner.invoke(app, [verb, "--help"], env=wide)
        assert done.exit_code == 0
        assert f"projectk {verb}" in done.stdout.split("Examples", 1)[1]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["status", "--ops", "example"], 2, "--ops-url: 'example' is no URL like http://127.0.0.1:9080"),
        (["drain", "Fred"], 2, "Invalid value for 'ID': 'Fred' is no process like gs2"),
        (["handoff", "Ana"], 2, "Invalid value for 'ENTITY': 'Ana' is no entity"),
        (["deploy"], 1, "No cluster runs on var (it has no ops.json): start one with projectk up"),
        (["events", "--ops", "http://127.0.0.1:1"], 1, "The operators' token var/keys/ops.token cannot be read"),
        (
            ["status", "--ops", "http://127.0.0.1:1", "--token-file", "token"],
            1,
            "No gateway answers (http://127.0.0.1:1; named by --ops): is the cluster running? projectk up starts one.",
        ),
    ],
)
def test_what_operators_cannot_ask_is_one_sentence(
    words: list[str],
    code: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "token").write_text("secret")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["projectk", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == code
    out, err = capsys.readouterr()
    assert err.startswith(f"projectk: {said}")
    assert (out, len(err.splitlines())) == ("", 1)


def test_reset_deletes_the_world_and_only_that(tmp_path: Path) -> None:
    for part in ("store/world.sqlite", "logs/gs1.log", "notes.txt"):
        (tmp_path / part).parent.mkdir(exist_ok=True)
        (tmp_path / part).write_text("x")
    assert projectk("reset", "--data", str(tmp_path), cwd=tmp_path).returncode != 0  # nobody said yes
    assert (tmp_path / "store/world.sqlite").exists()
    assert projectk("reset", "--data", str(tmp_path), "--yes", cwd=tmp_path).returncode == 0
    assert not (tmp_path / "store").exists()
    assert (tmp_path / "notes.txt").exists()
