"""Composition root of the login, and its handlers on the mesh."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from prometheus_client import Counter

from login.accounts import Accounts, RandomBytes, Signed, Unauthorized
from login.ending import end_session
from login.placing import Placer
from login.tokens import PublicKeyRing, Signer, load_or_make_key
from runtime import tokens
from runtime.drain import drainable
from runtime.mesh import open_mesh
from runtime.mesh.api import Mesh, Refused, Sender
from runtime.notes import Notes
from runtime.service import Service
from runtime.store.access import serve_store
from runtime.store.api import Store, StoreError
from runtime.store.format import AgreedFormat, agree
from world.limits import ACCESS_TOKEN_S, DRAIN_SETTLE_MS, RESUME_TOKEN_S
from world.messages import (
    Granted,
    LoginGuest,
    LoginRefresh,
    Logout,
    Message,
    Ok,
    OpenSession,
    PublicKeys,
    SessionOpened,
    SigningKeys,
)

M = TypeVar("M", bound=Message)


class Login:
    """Answers gateways. Every answer rests on the store; a login that dies takes nothing with it."""

    def __init__(
        self,
        service: Service,
        mesh: Mesh,
        store: Store,
        private: Ed25519PrivateKey,
        random_bytes: RandomBytes,
        agreed: AgreedFormat,
    ) -> None:
        self._clock = service.clock
        self._mesh = mesh
        self._signer = Signer(private)
        self._accounts = Accounts(store, service.clock.world_ms, random_bytes, agreed)
        self._placer = Placer(store, mesh.book, service.settings, service.clock)
        self.keys = PublicKeyRing(store, self._signer, service.node_id)
        self._running = 0  # requests being answered
        self._idle = asyncio.Event()
        self._idle.set()
        self._answers = Counter(
            "projectk_login_answers", "Requests by kind and outcome", ["kind", "code"], registry=service.metrics
        )

    def serve(self) -> None:
        self._serve(LoginGuest, self._guest)
        self._serve(LoginRefresh, self._refresh)
        self._serve(Logout, self._logout)
        self._serve(OpenSession, self._open_session)
        self._serve(SigningKeys, self._signing_keys)

    def _serve(self, kind: type[M], handler: Callable[[M], Awaitable[Message]]) -> None:
        """Refusals as problem codes: unauthorized, store_unavailable, session_not_ended."""

        async def answer(_sender: Sender, message: M) -> Message:
            self._running += 1
            self._idle.clear()
            try:
                reply = await handler(message)
            except Unauthorized as error:
                self._count(kind, "unauthorized")
                raise Refused("unauthorized", str(error)) from error
            except StoreError as error:
                self._count(kind, error.code)
                raise Refused("store_unavailable", error.code) from error
            except Refused as error:
                self._count(kind, error.code)
                raise
            finally:
                self._running -= 1
                if not self._running:
                    self._idle.set()
            self._count(kind, "ok")
            return reply

        self._mesh.serve(kind, answer)

    def _count(self, kind: type[Message], code: str) -> None:
        self._answers.labels(kind.__name__, code).inc()

    async def drain(self) -> int:
        """Answer what others asked before they heard that they are to ask elsewhere. It owns nothing: 0."""
        await asyncio.sleep(DRAIN_SETTLE_MS / 1_000)
        await self._idle.wait()
        return 0

    async def _guest(self, _message: LoginGuest) -> Granted:
        await self._publish_key()
        return self._granted(await self._accounts.guest())

    async def _refresh(self, message: LoginRefresh) -> Granted:
        await self._publish_key()
        return self._granted(await self._accounts.refresh(message.refresh_token))

    async def _logout(self, message: Logout) -> Ok:
        """Nothing of this sign-in is valid any more, and its live session is over. Whatever comes between, a repeat
        goes on from what is in the store."""
        ended = await self._accounts.logout(message.refresh_token)
        if ended is not None:
            await end_session(self._mesh, self._clock, ended.avatar, ended.session)
        return Ok()

    async def _open_session(self, message: OpenSession) -> SessionOpened:
        await self._publish_key()
        account = await self._accounts.account(message.account)
        if account.avatar != message.avatar:
            raise Unauthorized("another account's avatar")
        session = await self._accounts.session_number()
        await self._accounts.check_family(message.family)  # after the number: a logout from now on ends this session
        claims = self._claims(tokens.RESUME, message.account, account.avatar, account.name, RESUME_TOKEN_S, session)
        server = await self._placer.server_for(account.avatar)
        return SessionOpened(session, self._signer.sign(claims), server)

    async def _signing_keys(self, _message: SigningKeys) -> PublicKeys:
        return PublicKeys(*await self.keys.all())

    async def _publish_key(self) -> None:
        """Nothing is signed before every login can name the key. Raises StoreError."""
        if not self.keys.published:
            await self.keys.publish()

    def _granted(self, signed: Signed) -> Granted:
        claims = self._claims(
            tokens.ACCESS, signed.account, signed.avatar, signed.name, ACCESS_TOKEN_S, family=signed.family
        )
        return Granted(self._signer.sign(claims), signed.refresh_token, signed.avatar, signed.name, ACCESS_TOKEN_S)

    def _claims(
        self, purpose: str, account: str, avatar: int, name: str, lives_s: int, session: int = 0, family: str = ""
    ) -> tokens.Claims:
        now_s = self._clock.world_ms() // 1_000
        return tokens.Claims(account, avatar, name, purpose, now_s, now_s + lives_s, session, family)


def build(
    service: Service,
    mesh: Mesh,
    store: Store,
    *,
    private: Ed25519PrivateKey | None = None,
    random_bytes: RandomBytes = secrets.token_bytes,
    agreed: AgreedFormat | None = None,
) -> Login:
    """The login over any mesh and store; the simulation hands in a key and its own source of bytes."""
    login = Login(service, mesh, store, private or Ed25519PrivateKey.generate(), random_bytes, agreed or AgreedFormat())
    login.serve()
    return login


async def start(service: Service) -> None:
    private = load_or_make_key(service.settings.data / "keys" / f"{service.node_id}.pem")
    mesh = await open_mesh(
        service,
        role="login",
        node_id=service.node_id,
        generation=None,
        publishes_state=False,
        subscribes_state=False,
    )
    store = await serve_store(service, mesh)
    agreed = await agree(store, service.settings.world_seed)
    login = build(service, mesh, store, private=private, agreed=agreed)
    service.spawn(agreed.follow(store), "format", loop=True)
    drainable(service, mesh, Notes(mesh, service.clock), login.drain)
    mesh.update_me(status="ready")
    service.ready(command=mesh.me.command)
