"""Tokens and the keys that check them."""

import asyncio

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.keys import Keys
from gateway.session import Claims, Failed
from runtime import tokens
from runtime.mesh.api import DeadlineExceeded
from tests.support.aio import run
from tests.unit.gateway.support import AVATAR, KID, ManualClock, StubMesh, token, with_login
from world.limits import KEYS_REFRESH_MS, TOKEN_LEEWAY_S
from world.messages import PublicKeys, SigningKeys


def keys() -> tuple[Keys, StubMesh, ManualClock]:
    """Time passes only while somebody waits for the next question."""
    clock = ManualClock()
    mesh = with_login(StubMesh(), lambda: clock.world_ms() / 1_000)

    async def sleep(s: float) -> None:
        await asyncio.sleep(0)
        clock.now_ms += s * 1_000

    return Keys(mesh, clock, sleep), mesh, clock


def test_an_unknown_key_is_fetched_once_then_checks_need_nobody() -> None:
    async def play() -> None:
        ring, mesh, clock = keys()
        good = token("access", clock.world_ms() / 1_000)
        assert ring.check(good, "access") is None
        assert await ring.fetch_and_check(good, "access") == Claims("1", AVATAR, "Ana")
        assert ring.check(good, "access") == Claims("1", AVATAR, "Ana")
        assert mesh.calls[SigningKeys] == 1

    run(play())


def test_what_is_refused() -> None:
    async def play() -> None:
        ring, _mesh, clock = keys()
        now = clock.world_ms() / 1_000
        good = token("access", now)
        await ring.fetch_and_check(good, "access")
        forged = tokens.sign(Ed25519PrivateKey.generate(), KID, tokens.Claims("1", 1, "x", "access", 0, 1 << 40))
        unsigned = ".".join([*good.split(".")[:2], ""])
        for bad in ("", "x", "a.b.c", forged, unsigned, good[:-4], token("resume", now), "{" * 2_000):
            assert ring.check(bad, "access") == Failed("unauthorized"), bad
        clock.now_ms += (900 + TOKEN_LEEWAY_S + 2) * 1_000
        assert ring.check(good, "access") == Failed("unauthorized")

    run(play())


def test_unknown_keys_are_not_asked_for_without_end() -> None:
    """A crowd of strangers waits for one question, and costs the logins one in KEYS_REFRESH_MS."""

    async def play() -> None:
        ring, mesh, clock = keys()
        stranger = tokens.sign(Ed25519PrivateKey.generate(), "k9", tokens.Claims("1", 1, "x", "access", 0, 1 << 40))
        assert await ring.fetch_and_check(stranger, "access") == Failed("unauthorized")
        began_ms = clock.now_ms
        said = await asyncio.gather(*(ring.fetch_and_check(stranger, "access") for _ in range(50)))
        assert said == [Failed("unauthorized")] * 50
        assert mesh.calls[SigningKeys] == 2
        assert clock.now_ms - began_ms == KEYS_REFRESH_MS

    run(play())


def test_a_key_that_came_after_the_last_question_is_asked_for_and_its_token_good() -> None:
    async def play() -> None:
        ring, mesh, clock = keys()
        whole = mesh.answers[SigningKeys]
        mesh.answers[SigningKeys] = lambda _m: PublicKeys({}, complete=True)
        good = token("access", clock.world_ms() / 1_000)
        assert await ring.fetch_and_check(good, "access") == Failed("unauthorized")
        mesh.answers[SigningKeys] = whole  # a login began to sign
        assert isinstance(await ring.fetch_and_check(good, "access"), Claims), "not busy: it is waited for"

    run(play())


def test_no_login_is_not_a_bad_token() -> None:
    async def play() -> None:
        ring, mesh, clock = keys()
        mesh.answers[SigningKeys] = lambda _m: DeadlineExceeded()
        good = token("access", clock.world_ms() / 1_000)
        assert await ring.fetch_and_check(good, "access") == Failed("deadline")

    run(play())


def test_a_login_that_cannot_name_all_keys_makes_no_token_bad() -> None:
    async def play() -> None:
        ring, mesh, clock = keys()
        whole = mesh.answers[SigningKeys]
        mesh.answers[SigningKeys] = lambda _m: PublicKeys({}, complete=False)
        good = token("resume", clock.world_ms() / 1_000)
        assert await ring.fetch_and_check(good, "resume") == Failed("store_unavailable")
        mesh.answers[SigningKeys] = whole
        clock.now_ms += KEYS_REFRESH_MS
        assert isinstance(await ring.fetch_and_check(good, "resume"), Claims)

    run(play())


@pytest.mark.parametrize("algorithm", ["none", "HS256"])
def test_other_algorithms_are_refused(algorithm: str) -> None:
    import jwt

    ring, _mesh, _clock = keys()
    ring._keys[KID] = Ed25519PrivateKey.generate().public_key()
    claims = {"sub": "1", "av": 1, "name": "x", "aud": "access", "iat": 0, "exp": 1 << 40}
    secret = "s" * 32 if algorithm == "HS256" else ""
    said = jwt.encode(claims, secret, algorithm=algorithm, headers={"kid": KID})
    assert ring.check(said, "access") == Failed("unauthorized")
