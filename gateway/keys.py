"""The logins' public keys, fetched when a token names one that is not known yet."""

import asyncio
from collections.abc import Awaitable, Callable

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gateway.session import Claims, Failed
from runtime import tokens
from runtime.mesh.api import Mesh, MeshError
from world.clock import Clock
from world.limits import KEYS_REFRESH_MS, PUBLIC_KEYS
from world.messages import PublicKeys, SigningKeys


class Keys:
    """Public keys by id. Unknown ids are looked up at any login, one question at a time, at most one in
    KEYS_REFRESH_MS; whoever comes meanwhile waits for the next one together."""

    def __init__(self, mesh: Mesh, clock: Clock, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._mesh = mesh
        self._clock = clock
        self._sleep = sleep
        self._keys: dict[str, Ed25519PublicKey] = {}
        self._asked_ms = float("-inf")  # when the last question began
        self._asking = asyncio.Lock()
        self._unknown = Failed("busy")  # what the last question said of keys that are not in its answer

    def check(self, token: str, purpose: str) -> Claims | Failed | None:
        """None: signed by an unknown key; ask ``fetch_and_check``."""
        try:
            said = tokens.verify(token, self._keys, purpose, self._clock.world_ms() / 1_000)
        except tokens.UnknownKey:
            return None
        except tokens.BadToken:
            return Failed("unauthorized")
        return Claims(said.sub, said.av, said.name, said.ses, said.fam)

    async def fetch_and_check(self, token: str, purpose: str) -> Claims | Failed:
        """As ``check``, after a question that began since this call. Unauthorized is only what was signed by none of
        all keys: where not all could be asked for just now, the token may be tried again."""
        came_ms = self._clock.monotonic_ms()
        async with self._asking:
            checked = self.check(token, purpose)
            if checked is None and self._asked_ms <= came_ms:
                await self._ask()
                checked = self.check(token, purpose)
            return checked or self._unknown

    async def _ask(self) -> None:
        wait_ms = self._asked_ms + KEYS_REFRESH_MS - self._clock.monotonic_ms()
        if wait_ms > 0:
            await self._sleep(wait_ms / 1_000)
        self._asked_ms = self._clock.monotonic_ms()
        try:
            complete = await self._fetch()
        except MeshError as error:
            self._unknown = Failed(error.code)
        else:
            self._unknown = Failed("unauthorized" if complete else "store_unavailable")

    async def _fetch(self) -> bool:
        """Whether the answer names all keys there are. Raises MeshError."""
        answer = await self._mesh.call_any("login", SigningKeys())
        if not isinstance(answer, PublicKeys):
            return False
        for kid, text in list(answer.keys.items())[:PUBLIC_KEYS]:
            self._keys[kid] = tokens.public_key(text)
        return answer.complete
