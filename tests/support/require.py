"""What a test needs beyond the Python packages: without it the test is skipped by name, or, where it was promised
(``PROJECTK_TEST_REQUIRE=browser``, as ``.ci/run`` does), fails."""

import os
from typing import NoReturn

import pytest

VARIABLE = "PROJECTK_TEST_REQUIRE"


def missing(what: str, how_to_get_it: str) -> NoReturn:
    """``missing("browser", "apt install chromium")``: skips or fails the running test."""
    message = f"needs a {what}: {how_to_get_it}"
    if what in os.environ.get(VARIABLE, "").split(","):
        pytest.fail(f"{message} ({VARIABLE} promises it)", pytrace=False)
    pytest.skip(message)
