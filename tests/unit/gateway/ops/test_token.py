"""The operators' token: made once, whoever comes first, readable by its owner only."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from gateway.ops.token import _make, load_or_make_token, same_token, token_path
from runtime.service import StartRefused

GATEWAYS = 8


def test_gateways_that_start_together_agree(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "ops.token"
    together = Barrier(GATEWAYS)

    def start(_n: int) -> str:
        together.wait(5)
        return load_or_make_token(path)

    with ThreadPoolExecutor(GATEWAYS) as pool:
        said = list(pool.map(start, range(GATEWAYS)))
    assert set(said) == {path.read_text().strip()}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["ops.token"], "no draft is left"


def test_who_comes_second_takes_the_firsts(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "ops.token"
    first = load_or_make_token(path)
    _make(path)  # by one that had found no file
    assert load_or_make_token(path) == first


def test_the_token_of_before_counts_and_the_setting_overrides(tmp_path: Path) -> None:
    own = tmp_path / "mine"
    own.write_text("a-token-of-my-own-making\n")
    assert token_path(tmp_path, None) == tmp_path / "keys" / "ops.token"
    assert load_or_make_token(token_path(tmp_path, own)) == "a-token-of-my-own-making"
    made = load_or_make_token(token_path(tmp_path, None))
    assert load_or_make_token(token_path(tmp_path, None)) == made
    assert len(made) > 40


@pytest.mark.parametrize("content", [b"", b"short\n", b"two words and more of them", b"x" * 600, b"\xff" * 40])
def test_a_file_that_is_no_token_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "ops.token"
    path.write_bytes(content)
    with pytest.raises(StartRefused, match="operators' token"):
        load_or_make_token(path)
    assert path.read_bytes() == content


def test_tokens_are_compared_whole() -> None:
    assert same_token("secret", "secret")
    assert not same_token("secre", "secret")
    assert not same_token("", "secret")
    assert not same_token("ü", "secret")
