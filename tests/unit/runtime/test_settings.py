"""Settings: defaults, the environment, flags over both, and one sentence for a wrong value."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from runtime.settings import Settings, SettingsError, read_settings


def test_flags_win_over_the_environment_and_that_over_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROJECTK_PORT", "9000")
    monkeypatch.setenv("PROJECTK_JOIN", "tcp://127.0.0.1:1, tcp://127.0.0.1:2")
    assert read_settings(port=None).port == 9000
    assert read_settings(port=7).port == 7
    assert read_settings().join == ("tcp://127.0.0.1:1", "tcp://127.0.0.1:2")
    assert read_settings().gameservers == 3


def test_variables_are_read_as_their_settings_types(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "DATA": "/srv/world",
        "LOG_FILE": "a.log",
        "GATEWAYS": "4",
        "OPS_URL": "http://a/,http://b",
    }.items():
        monkeypatch.setenv(f"PROJECTK_{name}", value)
    read = read_settings()
    assert (read.data, read.log_file, read.gateways) == (Path("/srv/world"), Path("a.log"), 4)
    assert read.ops_url == ("http://a", "http://b")
    assert read_settings(data=Path("d")).data == Path("d")


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        setattr(Settings(), "port", 1)  # noqa: B010 - what mypy would refuse


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"port": 70000}, "--port: input should be less than or equal to 65535 (got 70000)."),
        ({"gameservers": 0}, "--gameservers: input should be greater than or equal to 1 (got 0)."),
        (
            {"port": "many"},
            "--port: input should be a valid integer, unable to parse string as an integer (got 'many').",
        ),
        ({"balance": "no"}, "--balance: input should be 'on' or 'off' (got 'no')."),
        ({"log_level": 3}, "--log-level: input should be 'debug', 'info', 'warning' or 'error' (got 3)."),
        (
            {"ops_host": "10.0.0.1/99"},
            "--ops-host: '10.0.0.1/99' is no IPv4 network like 10.77.0.0/22 (got '10.0.0.1/99').",
        ),
        ({"join": "nowhere"}, "--join: 'nowhere' is no endpoint like tcp://127.0.0.1:7001 (got 'nowhere')."),
    ],
)
def test_a_wrong_flag_is_one_sentence(flags: dict[str, object], said: str) -> None:
    with pytest.raises(SettingsError) as error:
        read_settings(**flags)
    assert str(error.value) == said


def test_a_wrong_variable_is_named_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROJECTK_RESTART", "perhaps")
    with pytest.raises(SettingsError, match=r"^PROJECTK_RESTART: "):
        read_settings()


def test_a_misspelt_variable_is_named_with_what_was_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROJECTK_TEST_SEEDS", "3")
    monkeypatch.setenv("PROJECTK_SUPERVISOR_FD", "5")
    read_settings()
    monkeypatch.setenv("PROJECTK_GAMESERVER", "3")
    with pytest.raises(SettingsError, match=r"^PROJECTK_GAMESERVER: .* did you mean PROJECTK_GAMESERVERS\?$"):
        read_settings()
