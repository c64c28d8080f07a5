"""Guests and refresh tokens over the in-memory store, its faults included."""

import random

import msgspec
import pytest

from login.accounts import Accounts, RefreshToken, Unauthorized
from runtime.store.api import Document, Durability, StoreError
from runtime.store.format import AgreedFormat
from runtime.store.memory import Faults, MemoryStore
from tests.support.aio import run
from world.ids import AVATAR_KIND, kind_of
from world.limits import REFRESH_GRACE_S, REFRESH_TOKEN_S
from world.message_values import Json
from world.upgrades import FORMATS, STEPS, BadDocument, Formats, Step

NOW_MS = 1_700_000_000_000


class Desk:
    """One store and as many logins as needed."""

    def __init__(self, faults: Faults | None = None) -> None:
        self.store = MemoryStore(faults)
        self.now_ms = NOW_MS
        self.rng = random.Random(5)

    def login(self) -> Accounts:
        return Accounts(self.store, lambda: self.now_ms, self.rng.randbytes)


def test_guests_are_distinct_and_named() -> None:
    async def play() -> None:
        desk = Desk()
        guests = [await desk.login().guest() for _ in range(20)]
        assert len({g.avatar for g in guests}) == len({g.refresh_token for g in guests}) == 20
        assert len({g.name for g in guests}) == 20
        assert all(kind_of(g.avatar) == AVATAR_KIND for g in guests)
        account = await desk.login().account(guests[3].account)
        assert (account.avatar, account.name) == (guests[3].avatar, guests[3].name)

    run(play())


def test_no_token_is_in_the_store() -> None:
    async def play() -> None:
        desk = Desk()
        guest = await desk.login().guest()
        after = await desk.login().refresh(guest.refresh_token)
        for kind in ("account", "family", "token"):
            keys = await desk.store.list(kind)
            for key, document in (await desk.store.get_many(keys)).items():
                for secret in (guest.refresh_token, after.refresh_token):
                    assert secret not in key
                    assert secret.encode() not in document.value

    run(play())


def test_refresh_rotates_and_any_login_serves_it() -> None:
    async def play() -> None:
        desk = Desk()
        held = await desk.login().guest()
        for _ in range(5):
            desk.now_ms += 900_000
            after = await desk.login().refresh(held.refresh_token)
            assert after.refresh_token != held.refresh_token
            assert (after.account, after.avatar, after.name) == (held.account, held.avatar, held.name)
            held = after

    run(play())


def test_a_lost_answer_is_given_again_while_its_successor_is_unused() -> None:
    async def play() -> None:
        desk = Desk()
        guest = await desk.login().guest()
        first = await desk.login().refresh(guest.refresh_token)
        desk.now_ms += (REFRESH_GRACE_S - 1) * 1_000
        assert await desk.login().refresh(guest.refresh_token) == first

    run(play())


def test_a_login_that_died_between_its_writes_leaves_a_token_that_works() -> None:
    async def play() -> None:
        desk = Desk()
        guest = await desk.login().guest()
        first = await desk.login().refresh(guest.refresh_token)
        for key in await desk.store.list("token"):
            document = await desk.store.get(key)
            if msgspec.json.decode(document.value, type=RefreshToken).used is None:
                await desk.store.remove(key, document.cas)
        assert await desk.login().refresh(guest.refresh_token) == first
        await desk.login().refresh(first.refresh_token)

    run(play())


@pytest.mark.parametrize("how", ["successor used", "grace over"])
def test_reuse_revokes_the_family(how: str) -> None:
    async def play() -> None:
        desk = Desk()
        guest = await desk.login().guest()
        newest = await desk.login().refresh(guest.refresh_token)
        if how == "successor used":
            newest = await desk.login().refresh(newest.refresh_token)
        else:
            desk.now_ms += (REFRESH_GRACE_S + 1) * 1_000
        other = await desk.login().guest()
        with pytest.raises(Unauthorized):
            await desk.login().refresh(guest.refresh_token)
        with pytest.raises(Unauthorized):
            await desk.login().refresh(newest.refresh_token)
        await desk.login().refresh(other.refresh_token)

    run(play())


def test_logout_expiry_and_nonsense() -> None:
    async def play() -> None:
        desk = Desk()
        guest, other = await desk.login().guest(), await desk.login().guest()
        await desk.login().logout("nonsense")
        await desk.login().logout(guest.refresh_token)
        await desk.login().logout(guest.refresh_token)
        desk.now_ms += (REFRESH_TOKEN_S + 1) * 1_000
        for token in (guest.refresh_token, other.refresh_token, "nonsense"):
            with pytest.raises(Unauthorized):
                await desk.login().refresh(token)
        with pytest.raises(Unauthorized):
            await desk.login().account("999")

    run(play())


def test_a_session_opened_beside_a_logout_is_refused_or_ends_with_it() -> None:
    """Whoever opens one takes its number, then looks at the sign-in; at any moment of the logout."""

    class Beside(MemoryStore):
        """Each call of the logout is preceded by the opening of a session."""

        async def get(self, key: str) -> Document:
            await beside()
            return await MemoryStore.get(self, key)

        async def replace(
            self, key: str, value: bytes, cas: int, *, durability: Durability = Durability.PERSIST_TO_MAJORITY
        ) -> int:
            await beside()
            return await MemoryStore.replace(self, key, value, cas, durability=durability)

        async def counter(self, key: str, *, delta: int = 1, initial: int = 1) -> int:
            await beside()
            number = await MemoryStore.counter(self, key, delta=delta, initial=initial)
            await beside()
            return number

    opened: list[int] = []

    async def beside() -> None:
        login = desk.login()
        number = await login.session_number()
        try:
            await login.check_family(guest.family)
        except Unauthorized:
            return
        opened.append(number)

    desk = Desk()

    async def play() -> int:
        store = Beside()
        store.table = desk.store.table
        ended = await Accounts(store, lambda: desk.now_ms, desk.rng.randbytes).logout(guest.refresh_token)
        assert ended is not None
        assert await desk.login().logout(guest.refresh_token) == ended, "a repeat ends nothing else"
        await beside()
        return ended.session

    guest = run(desk.login().guest())
    ended = run(play())
    assert opened
    assert max(opened) < ended


def test_a_sign_in_that_is_over_opens_no_session() -> None:
    async def play() -> None:
        desk = Desk()
        guest, other = await desk.login().guest(), await desk.login().guest()
        await desk.login().check_family(guest.family)
        await desk.login().check_family("")  # a token of a release that did not name it
        await desk.login().logout(guest.refresh_token)
        for family in (guest.family, "nonsense"):
            with pytest.raises(Unauthorized):
                await desk.login().check_family(family)
        assert (await desk.login().refresh(other.refresh_token)).family == other.family
        await desk.login().check_family(other.family)

    run(play())


@pytest.mark.parametrize("seed", range(60))
def test_ambiguous_writes_and_retries_never_lose_a_guest(seed: int) -> None:
    """A client that repeats what was not answered always ends with a token that works."""

    async def play() -> None:
        rng = random.Random(seed)
        desk = Desk(Faults(rng, temporary=0.1, lost=0.15, applied=0.15, late=0.1))
        held = None
        while held is None:
            try:
                held = await desk.login().guest()
            except StoreError:
                continue
        for _ in range(6):
            again = None
            while again is None:
                desk.now_ms += 1_000
                try:
                    again = await desk.login().refresh(held.refresh_token)
                except StoreError:
                    continue
            held = again

    run(play())


def test_accounts_are_read_in_any_format_and_written_in_the_agreed_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the middle of a deploy to a release that calls an account's name ``name`` and no longer ``called``."""

    def up(document: Json) -> Json:
        return {"name" if k == "called" else k: v for k, v in document.items()}

    def down(document: Json) -> Json:
        return {"called" if k == "name" else k: v for k, v in document.items()}

    old = FORMATS.newest
    formats = Formats({**STEPS, old: {"account": Step(up, down)}}, FORMATS.oldest, old + 1)
    monkeypatch.setattr("login.accounts.FORMATS", formats)

    async def play() -> None:
        desk, agreed = Desk(), AgreedFormat(old)
        accounts = Accounts(desk.store, lambda: desk.now_ms, desk.rng.randbytes, agreed)

        async def stored(kind: str, key: str) -> Json:
            found: Json = msgspec.json.decode((await desk.store.get(f"{kind}:{key}")).value)
            return found

        first = await accounts.guest()
        assert (await stored("account", first.account))["called"] == first.name
        assert (await accounts.account(first.account)).name == first.name
        agreed.number = old + 1
        second = await accounts.guest()
        found = await stored("account", second.account)
        assert found["name"] == second.name
        assert (await accounts.refresh(first.refresh_token)).name == first.name, "written before, read since"
        key = f"account:{first.account}"
        desk.store.table.put(key, msgspec.json.encode(found | {"format": old + 2}))
        with pytest.raises(BadDocument, match="written by a newer release"):
            await accounts.account(first.account)

    run(play())
