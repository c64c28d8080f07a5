"""The documentation says what is: links resolve, places named in the code exist, tables agree with the code, commands
exist, and the README's rule runs."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import typer.main

import world.kinds
import world.rules.gather
from cluster.cli import app
from gateway import closing, problems
from gateway.ops import openapi
from gateway.ops import problems as ops_problems
from runtime.notes import KINDS
from tests.support.game import Game, nearest
from tests.support.virtual import run_virtual
from world import limits
from world.entity import _KINDS, Entity
from world.kinds import BUSH
from world.messages import ALL
from world.rules.registry import COMMANDS

ROOT = Path(__file__).parents[1]
PROTOCOL = ROOT / "docs/protocol"
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
PACKAGES = ("world", "runtime", "gateway", "gameserver", "login", "broker", "cluster", "web_client")


def text_of(*paths: Path) -> str:
    return "\n".join(path.read_text() for path in paths)


# -- links and places -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    text = re.sub(r"```.*?```", "", document.read_text(), flags=re.DOTALL)
    links = [target for target in re.findall(r"\]\(([^)\s]+)\)", text) if not re.match(r"[a-z]+:", target)]
    missing = [target for target in links if not (document.parent / target.partition("#")[0]).exists()]
    assert not missing


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_named_exist(document: Path) -> None:
    named = re.findall(r"`((?:\w+/)+[\w.-]+\.(?:py|js|json|md|toml))(?::\S*)?`", document.read_text())
    to_be_written = {"world/rules/water.py"}  # the README's example
    assert not [path for path in named if path not in to_be_written and not (ROOT / path).exists()]


def test_places_named_exist() -> None:
    """``file:name`` and ``file:Class.name``; of JavaScript an export."""
    places = re.findall(r"`((?:\w+/)+[\w.]+\.(?:py|js)):([\w.]+)`", text_of(*DOCUMENTS))
    assert len(places) > 50
    assert not [f"{path}:{name}" for path, name in places if name not in names_in(path)]


@cache
def names_in(path: str) -> set[str]:
    text = (ROOT / path).read_text()
    if path.endswith(".js"):
        return set(re.findall(r"^(?:export )?(?:async )?(?:class|function|const) (\w+)", text, flags=re.MULTILINE))
    return set(python_names(ast.parse(text).body))


def python_names(body: list[ast.stmt], prefix: str = "") -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield prefix + node.name
        elif isinstance(node, ast.ClassDef):
            yield prefix + node.name
            yield from python_names(node.body, f"{prefix}{node.name}.")
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (prefix + target.id for target in targets if isinstance(target, ast.Name))


def test_limits_named_exist() -> None:
    named = set(re.findall(r"`([A-Z][A-Z0-9]+(?:_[A-Z0-9]+)+)`", text_of(*DOCUMENTS)))
    known = set(vars(limits)) | {"FLAG_CORRECTED", "ROUTER_MANDATORY"}  # of world.frames, of ZeroMQ
    known |= set(re.findall(r"\$\{([A-Z_]+):-", (ROOT / "compose.yaml").read_text()))
    assert not {name for name in named if not name.startswith("PROJECTK_")} - known


def test_settings_named_exist() -> None:
    from runtime.settings import Settings
    from runtime.store.opening import CREDENTIALS

    extra = {"PROJECTK_TEST_REQUIRE", "PROJECTK_TEST_SEEDS", "PROJECTK_TEST_SEED_START", "PROJECTK_"}
    named = set(re.findall(r"PROJECTK_[A-Z_]*", text_of(*DOCUMENTS)))
    assert not named - extra - {*CREDENTIALS} - {f"PROJECTK_{name.upper()}" for name in Settings.model_fields}


# -- the protocol's tables -------------------------------------------------------------------------------------------
def rows(document: Path, heading: str) -> list[list[str]]:
    """Cells of the first table below a heading, without its head."""
    section = document.read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_close_codes_are_those_of_the_gateway() -> None:
    told = {
        (int(r[0]), r[1], r[3])
        for r in rows(PROTOCOL / "07-close-codes-and-errors.md", "Close codes of the game socket")
    }
    assert told == {tuple(code) for code in closing.ALL}


def test_http_errors_are_those_of_the_gateway() -> None:
    told = {}
    for status, codes, *_ in rows(PROTOCOL / "02-http.md", "Errors"):
        told.update({code: int(status) for code in re.findall(r"`(\w+)`", codes)})
    assert told.items() >= problems.STATUS.items()
    others = text_of(*(ROOT / "gateway").glob("*.py"))
    assert not [code for code in told if f'"{code}"' not in others]


def test_operators_routes_and_errors_are_those_of_the_gateway() -> None:
    document = PROTOCOL / "11-ops.md"
    routes = {r[0].strip("`") for r in rows(document, "Routes")}
    assert routes == {f"{route.method.upper()} {route.path}" for route in openapi.ROUTES}
    assert {r[1].strip("`"): int(r[0]) for r in rows(document, "Errors")} == ops_problems.STATUS
    assert [r[0].strip("`") for r in rows(document, "Events")] == list(KINDS)


def test_refusals_are_said_by_somebody() -> None:
    told = [
        code
        for r in rows(PROTOCOL / "07-close-codes-and-errors.md", "Refusals of commands")
        for code in re.findall(r"`(\w+)`", r[0])
    ]
    code = text_of(
        *(path for folder in ("world", "gameserver", "gateway", "runtime") for path in (ROOT / folder).rglob("*.py"))
    )
    assert len(told) > 10
    assert not [name for name in told if f'"{name}"' not in code]


def test_every_rule_is_documented_with_its_refusals() -> None:
    told = {r[0].strip("`"): r[3] for r in rows(PROTOCOL / "06-commands-and-events.md", "Commands")}
    assert told.keys() == COMMANDS.keys()
    for op, refusals in told.items():
        module = COMMANDS[op].run.__module__.replace(".", "/")
        source = (ROOT / f"{module}.py").read_text().partition('"""')[2].partition('"""')[0]
        for code in re.findall(r"`(\w+)`", refusals):
            assert code in source, f"{op} does not say {code}"


def test_mesh_messages_are_those_of_the_table() -> None:
    told = {
        int(r[0]): (r[1].strip("`"), re.findall(r"`(\w+)`(\*?)", r[2]))
        for r in rows(PROTOCOL / "08-mesh-command-plane.md", "Messages")
    }
    for message in ALL:
        name, fields = told.pop(message.__struct_config__.tag)  # type: ignore[arg-type]
        required = len(message.__struct_fields__) - len(message.__struct_defaults__)
        stars = ["*" if n >= required else "" for n in range(len(message.__struct_fields__))]
        assert (name, fields) == (message.__name__, list(zip(message.__struct_fields__, stars, strict=True)))
    assert not told


# -- the README ------------------------------------------------------------------------------------------------------
README = (ROOT / "README.md").read_text()
SHOWN = "\n".join(
    re.findall(r"```sh\n(.*?)```", text_of(ROOT / "README.md", *(ROOT / "docs").glob("*.md")), re.DOTALL)
) + "\n".join(re.findall(r"`((?:make|projectk|\.venv/bin/projectk) [^`\n]+)`", text_of(*DOCUMENTS)))


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = set(re.findall(r"\bmake (\w+)", SHOWN))
    assert {"run", "test"} <= named <= targets


def test_verbs_and_flags_exist() -> None:
    verbs = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    known = {name: {flag for p in verb.params for flag in (*p.opts, *p.secondary_opts)} for name, verb in verbs.items()}
    lines = [line.partition("#")[0] for line in SHOWN.splitlines()]
    lines += [f"projectk up {arguments}" for arguments in re.findall(r'make run ARGS="([^"]*)"', SHOWN)]
    checked = 0
    for line in lines:
        found = re.search(r"projectk (\w[\w-]*)(.*)", line)
        if found is None:
            continue
        checked += 1
        verb, rest = found.groups()
        assert verb in known, line
        assert not set(re.findall(r"--[a-z-]+", rest)) - known[verb] - {"--help"}, line
    assert checked > 3


def readme_rule() -> str:
    (block,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    return str(block)


@pytest.fixture
def with_the_readmes_rule() -> Iterator[type[Entity]]:
    """The README's bush instead of the game's, and its command."""
    kept, ops = _KINDS.pop(BUSH), set(COMMANDS)
    names = {**vars(world.kinds), **vars(world.rules.gather), "__name__": "world.kinds"}
    try:
        exec(compile(readme_rule(), "README.md", "exec"), names)
        yield names["Bush"]
    finally:
        _KINDS[BUSH] = kept
        for op in set(COMMANDS) - ops:
            del COMMANDS[op]


@pytest.mark.parametrize("servers", [1, 2])
def test_the_readmes_rule_runs_on_real_and_ghost(servers: int, with_the_readmes_rule: type[Entity]) -> None:
    async def play() -> None:
        bush, x, y = nearest(BUSH)
        async with Game(servers) as game:
            first = await game.player(1, at="gs1")  # its server wakes the region
            await game.until(lambda: first.region in game.store.table.documents)
            player = await game.player(2, at=f"gs{servers}")
            far = await player.call("water", target=bush)
            assert (far.ok, far.code) == (False, "too_far")
            await player.walk(x, y)
            watered = await player.call("water", target=bush)
            assert (watered.ok, watered.value) == (True, {"berries": 5})
            again = await player.call("water", number=player.number, target=bush)
            assert again.value == {"berries": 5}, "a repeat has no second effect"
            stored = game.document(game_region(x, y))["data"]["entities"]
            assert stored[str(bush)] == {"berries": 5}
            wrong = await player.call("water", target=player.avatar)
            assert wrong.code == "not_a_plant"
        assert game.failures == []

    run_virtual(play())


def game_region(x: float, y: float) -> str:
    return f"region:{int(x // limits.REGION_M)},{int(y // limits.REGION_M)}"
