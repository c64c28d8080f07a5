"""What a test lacks is skipped by name, or fails where it was promised."""

import pytest

from tests.support.require import VARIABLE, missing


def test_a_missing_thing_skips_and_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(pytest.skip.Exception, match="needs a browser: apt install chromium"):
        missing("browser", "apt install chromium")


def test_a_promised_thing_that_is_missing_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "browser,root")
    with pytest.raises(pytest.fail.Exception, match="promises it"):
        missing("browser", "apt install chromium")
