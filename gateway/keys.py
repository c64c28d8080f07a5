"""The logins' public keys, fetched when a token names one that is not known yet."""

import asyncio

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gateway.session import Claims, Failed
from runtime import tokens
from runtime.mesh.api import Mesh, MeshError
from world.clock import Clock
from world.limits import KEYS_REFRESH_MS, PUBLIC_KEYS
from world.messages import PublicKeys, SigningKeys


class Keys:
    """Public keys by id. Unknown ids are looked up at any login, one question at a time."""

    def __init__(self, mesh: Mesh, clock: Clock) -> None:
        self._mesh = mesh
        self._clock = clock
        self._keys: dict[str, Ed25519PublicKey] = {}
        self._asked_ms = float("-inf")
        self._asking = asyncio.Lock()

    def check(self, token: str, purpose: str) -> Claims | Failed | None:
        """None: signed by an unknown key; ask ``fetch_and_check``."""
        try:
            said = tokens.verify(token, self._keys, purpose, self._clock.world_ms() / 1_000)
        except tokens.UnknownKey:
            return None
        except tokens.BadToken:
            return Failed("unauthorized")
        return Claims(said.sub, said.av, said.name, said.ses)

    async def fetch_and_check(self, token: str, purpose: str) -> Claims | Failed:
        """As ``check``, after asking a login for its keys, at most once in KEYS_REFRESH_MS. Unauthorized is only what
        was signed by none of all keys: where not all could be asked for just now, the token may be tried again."""
        async with self._asking:
            checked = self.check(token, purpose)
            if checked is not None:
                return checked
            if self._clock.monotonic_ms() - self._asked_ms < KEYS_REFRESH_MS:
                return Failed("busy")
            try:
                complete = await self._fetch()
            except MeshError as error:
                return Failed(error.code)
            unknown = Failed("unauthorized" if complete else "store_unavailable")
            return self.check(token, purpose) or unknown

    async def _fetch(self) -> bool:
        answer = await self._mesh.call_any("login", SigningKeys())
        self._asked_ms = self._clock.monotonic_ms()
        if not isinstance(answer, PublicKeys):
            return False
        for kid, text in list(answer.keys.items())[:PUBLIC_KEYS]:
            self._keys[kid] = tokens.public_key(text)
        return answer.complete
