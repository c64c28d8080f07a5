"""Two logins over one store: either answers, either checks what the other signed."""

import asyncio
import random
import stat
from pathlib import Path
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from login.app import Login, build
from login.tokens import load_or_make_key
from runtime import tokens
from runtime.mesh.api import Refused, Sender
from runtime.service import Service, StartRefused
from runtime.store.memory import Faults, MemoryStore
from tests.support.aio import run
from tests.support.virtual import run_virtual
from tests.unit.gateway.support import StubMesh
from world.ids import NodeId, avatar_unit
from world.messages import (
    Granted,
    LoginGuest,
    LoginRefresh,
    Member,
    Message,
    OpenSession,
    PublicKeys,
    SessionOpened,
    SigningKeys,
)


class Desk:
    def __init__(self, store: MemoryStore, node: str, *servers: Member, **settings: Any) -> None:
        self.service = Service.for_test("login", node, **settings)
        self.mesh = StubMesh(*servers)
        self.login: Login = build(self.service, self.mesh, store, private=Ed25519PrivateKey.generate())

    async def ask(self, message: Message) -> Any:
        return await self.mesh.handlers[type(message)](Sender(NodeId("gw1"), 1), message)


def server(number: int, **load: Any) -> Member:
    return Member("gameserver", f"gs{number}", 4, "", status="ready", load=load)


def test_a_drain_ends_when_what_was_asked_is_answered() -> None:
    async def play() -> None:
        store = MemoryStore(Faults(random.Random(1), delay_ms=(900.0, 1_000.0)))
        desk = Desk(store, "lg1", server(1))
        asking = asyncio.ensure_future(desk.ask(LoginGuest()))
        await asyncio.sleep(0)
        assert await desk.login.drain() == 0
        assert asking.done()
        assert isinstance(await asking, Granted)

    run_virtual(play())


def test_either_login_answers_and_names_every_key() -> None:
    async def play() -> None:
        store = MemoryStore()
        one, two = Desk(store, "lg1", server(1)), Desk(store, "lg2", server(1))
        granted = await one.ask(LoginGuest())
        assert isinstance(granted, Granted)
        keys: PublicKeys = await two.ask(SigningKeys())
        public = {kid: tokens.public_key(text) for kid, text in keys.keys.items()}
        now_s = one.service.clock.world_ms() / 1_000
        claims = tokens.verify(granted.access_token, public, "access", now_s)
        assert (claims.av, claims.name) == (granted.avatar, granted.name)
        opened: SessionOpened = await two.ask(OpenSession(claims.sub, claims.av))
        again: SessionOpened = await one.ask(OpenSession(claims.sub, claims.av))
        assert again.session > opened.session
        keys = await one.ask(SigningKeys())
        public = {kid: tokens.public_key(text) for kid, text in keys.keys.items()}
        resume = tokens.verify(opened.resume_token, public, "resume", now_s)
        assert (resume.ses, resume.av) == (opened.session, granted.avatar)
        assert isinstance(await two.ask(LoginRefresh(granted.refresh_token)), Granted)

    run(play())


def test_while_the_store_is_away_a_login_says_that_it_may_not_know_every_key() -> None:
    async def play() -> None:
        store = MemoryStore()
        one = Desk(store, "lg1", server(1))
        assert (await one.ask(SigningKeys())).complete
        await store.close()
        keys: PublicKeys = await one.ask(SigningKeys())
        assert (len(keys.keys), keys.complete) == (1, False)

    run(play())


def test_refusals_have_codes() -> None:
    async def play() -> None:
        desk = Desk(MemoryStore(), "lg1")
        granted = await desk.ask(LoginGuest())
        for message in (LoginRefresh("x"), OpenSession("999", 1), OpenSession("1", granted.avatar + 1)):
            with pytest.raises(Refused) as caught:
                await desk.ask(message)
            assert caught.value.code == "unauthorized"
        broken = Desk(MemoryStore(Faults(desk.service.rng, temporary=1.0)), "lg2")
        with pytest.raises(Refused) as caught:
            await broken.ask(LoginGuest())
        assert caught.value.code == "store_unavailable"

    run(play())


def test_nothing_is_signed_before_the_key_is_in_the_store() -> None:
    async def play() -> None:
        store = MemoryStore()
        desk = Desk(store, "lg1")
        assert await store.list("signkey") == []
        await desk.ask(LoginGuest())
        (key,) = await store.list("signkey")
        assert orjson.loads((await store.get(key)).value)["node"] == "lg1"

    run(play())


def test_placement_gathers_counts_its_own_and_finds_the_owner() -> None:
    async def play() -> None:
        store = MemoryStore()
        servers = [server(n, avatars=0, cap=3, seers={}) for n in (1, 2, 3)]
        desk = Desk(store, "lg1", *servers)
        granted = await desk.ask(LoginGuest())
        ask = OpenSession("1", granted.avatar)
        assert [(await desk.ask(ask)).server for _ in range(4)] == ["gs1", "gs1", "gs1", "gs2"]
        spread = Desk(store, "lg2", *servers, placement="spread")
        assert {(await spread.ask(ask)).server for _ in range(3)} == {"gs1", "gs2", "gs3"}
        head = {"format": 1, "owner": "gs3", "generation": 4, "epoch": 1, "version": 1, "write_id": "w"}
        cas = await store.insert(avatar_unit(granted.avatar), orjson.dumps(head))
        assert (await desk.ask(ask)).server == "gs3"
        await store.replace(avatar_unit(granted.avatar), orjson.dumps(head | {"generation": 3}), cas)
        assert (await desk.ask(ask)).server != "gs3", "a dead generation owns nothing"
        assert (await Desk(store, "lg3", Member("login", "lg1", 1, "")).ask(ask)).server == ""

    run(play())


def test_the_key_is_made_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "lg1.pem"
    first = load_or_make_key(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_or_make_key(path).public_key() == first.public_key()
    path.write_text("nonsense")
    with pytest.raises(StartRefused):
        load_or_make_key(path)
    (tmp_path / "file").write_text("")
    with pytest.raises(StartRefused):
        load_or_make_key(tmp_path / "file" / "lg1.pem")
