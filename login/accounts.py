"""Guests and their refresh tokens: documents under compare-and-swap, so that any login may serve any request.

::

    account:{id}        {format, avatar, name, kind, created_ms, write}
    family:{id}         {format, account, revoked, ended, write}   all tokens that descend from one sign-in
    token:{sha256}      {format, account, family, expires_s, used, write}
                        used: null | {at_s, salt}

A refresh token is used once. Its successor is ``SHA-256(salt, token)``: the store knows the salt and the hash, never
a token, and still the same successor can be handed out again when the answer was lost. That is granted for
REFRESH_GRACE_S while the successor is unused; any other second use is theft, and revokes the family.

A logout takes a session number and writes it into the family with the revocation: all sessions below it are over. Who
repeats a logout is given the same number again, so it ends nothing that began later.
"""

import base64
import hashlib
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

import msgspec

from runtime.store.api import Ambiguous, CasMismatch, Exists, NotFound, Store, Temporary
from runtime.store.format import AgreedFormat
from world.content import guest_name
from world.ids import AVATAR_KIND, entity_id
from world.limits import FORMAT, LOGIN_WRITE_TRIES, REFRESH_GRACE_S, REFRESH_TOKEN_S, TOKEN_BYTES
from world.upgrades import FORMATS, BadDocument

RandomBytes = Callable[[int], bytes]


class Unauthorized(Exception):
    """The refresh token is unknown, expired, revoked, or was used before; or the sign-in has ended."""


class Account(msgspec.Struct, frozen=True):
    avatar: int
    name: str
    kind: str
    created_ms: int
    write: str
    format: int = FORMAT


class Family(msgspec.Struct, frozen=True):
    account: str
    revoked: bool
    write: str
    ended: int = 0  # by a logout: the account's sessions below this number are over
    format: int = FORMAT


class Used(msgspec.Struct, frozen=True):
    at_s: int
    salt: str


class RefreshToken(msgspec.Struct, frozen=True):
    account: str
    family: str
    expires_s: int
    write: str
    used: Used | None = None
    format: int = FORMAT


class Signed(NamedTuple):
    """Whoever presented a good token: the account, and the refresh token to use next."""

    account: str
    avatar: int
    name: str
    refresh_token: str
    family: str


class Ended(NamedTuple):
    """Whose sessions are over, below which number."""

    avatar: int
    session: int


D = TypeVar("D", bound=msgspec.Struct)


class Documents:
    """Typed documents of one store; writes are settled when ambiguous. Raises StoreError where that fails, BadDocument
    for what is damaged or of a newer format."""

    def __init__(self, store: Store, random_bytes: RandomBytes, agreed: AgreedFormat) -> None:
        self._store = store
        self._agreed = agreed
        self._random = random_bytes

    def write_id(self) -> str:
        return self._random(12).hex()

    async def get(self, key: str, kind: type[D]) -> tuple[D, int]:
        """The document and its CAS token. Raises NotFound."""
        document = await self._store.get(key)
        return _decode(FORMATS.read(_kind_of(key), document.value), kind), document.cas

    async def insert(self, key: str, document: Any) -> None:
        """Raises Exists."""
        await self._settled(key, document, lambda body: self._store.insert(key, body))

    async def replace(self, key: str, document: Any, cas: int) -> None:
        """Raises CasMismatch, NotFound."""
        await self._settled(key, document, lambda body: self._store.replace(key, body, cas))

    async def _settled(self, key: str, document: Any, write: Callable[[bytes], Awaitable[int]]) -> None:
        """Write; where the outcome is unknown, read back: our write id there means that it landed. If not, the same
        content is tried again (the CAS token, or the absence, still guards it)."""
        body = FORMATS.write(_kind_of(key), msgspec.json.encode(document), self._agreed.number)
        for _try in range(LOGIN_WRITE_TRIES - 1):
            try:
                await write(body)
                return
            except (Ambiguous, CasMismatch, Exists) as error:
                if await self._landed(key, document.write):
                    return
                if not isinstance(error, Ambiguous):
                    raise
        await write(body)

    async def _landed(self, key: str, write: str) -> bool:
        try:
            found = await self._store.get(key)
        except NotFound:
            return False
        return bool(msgspec.json.decode(found.value).get("write") == write)


class Accounts:
    """All methods may raise StoreError; none leaves anything half done that a retry would not finish."""

    def __init__(
        self,
        store: Store,
        now_ms: Callable[[], int],
        random_bytes: RandomBytes,
        agreed: AgreedFormat | None = None,
    ) -> None:
        self._store = store
        self._documents = Documents(store, random_bytes, agreed or AgreedFormat())
        self._now_ms = now_ms
        self._random = random_bytes

    async def guest(self) -> Signed:
        """A new account with an avatar of its own."""
        number = await self._store.counter("counter:account")
        account = str(number)
        avatar = entity_id(AVATAR_KIND, await self._store.counter("counter:avatar"))
        document = Account(avatar, guest_name(number), "guest", self._now_ms(), self._documents.write_id())
        await self._documents.insert(f"account:{account}", document)
        family, token = self._random(16).hex(), _text(self._random(TOKEN_BYTES))
        await self._documents.insert(f"family:{family}", Family(account, False, self._documents.write_id()))
        await self._insert_token(token, account, family)
        return Signed(account, avatar, document.name, token, family)

    async def account(self, account: str) -> Account:
        """Raises Unauthorized where there is none."""
        try:
            found, _cas = await self._documents.get(f"account:{account}", Account)
        except NotFound as error:
            raise Unauthorized("no such account") from error
        return found

    async def refresh(self, token: str) -> Signed:
        """The token's successor. Raises Unauthorized."""
        for _try in range(LOGIN_WRITE_TRIES):
            held, cas = await self._live_token(token)
            if held.used is not None:
                return await self._again(token, held, held.used)
            used = Used(self._now_s(), self._random(16).hex())
            spent = msgspec.structs.replace(held, used=used, write=self._documents.write_id())
            try:
                await self._documents.replace(_key(token), spent, cas)
            except CasMismatch:
                continue  # the same token, used elsewhere at this moment: look again
            return await self._hand_out(token, held, used)
        raise Unauthorized("the token is in use elsewhere")

    async def session_number(self) -> int:
        """Higher than any before."""
        return await self._store.counter("counter:session")

    async def check_family(self, family: str) -> None:
        """Raises Unauthorized where this sign-in has ended: by a logout, or for a stolen token. "": a token that does
        not name it."""
        if not family:
            return
        try:
            held, _cas = await self._documents.get(f"family:{family}", Family)
        except NotFound as error:
            raise Unauthorized("no such sign-in") from error
        if held.revoked:
            raise Unauthorized("signed out")

    async def logout(self, token: str) -> Ended | None:
        """End the family; a spent token is good enough to end its own. The same answer to a repeat; None for a token
        that nobody knows. Never raises Unauthorized."""
        try:
            held, _cas = await self._documents.get(_key(token), RefreshToken)
            account, _cas = await self._documents.get(f"account:{held.account}", Account)
        except NotFound:
            return None
        return Ended(account.avatar, await self._end(held.family))

    async def _end(self, family: str) -> int:
        """Revoked first, then the number: whoever found it not yet revoked has taken a lower one."""
        await self._revoke(family)
        for _try in range(LOGIN_WRITE_TRIES):
            held, cas = await self._documents.get(f"family:{family}", Family)
            if held.ended:
                return held.ended
            session = await self.session_number()
            if await self._write_family(family, msgspec.structs.replace(held, ended=session), cas):
                return session
        raise Temporary(f"family:{family} is being written")

    async def _live_token(self, token: str) -> tuple[RefreshToken, int]:
        try:
            held, cas = await self._documents.get(_key(token), RefreshToken)
            family, _ = await self._documents.get(f"family:{held.family}", Family)
        except NotFound as error:
            raise Unauthorized("unknown token") from error
        if family.revoked or held.expires_s < self._now_s():
            raise Unauthorized("expired or revoked")
        return held, cas

    async def _again(self, token: str, held: RefreshToken, used: Used) -> Signed:
        """A second use: a lost answer, or theft."""
        try:
            successor, _ = await self._documents.get(_key(_successor(token, used.salt)), RefreshToken)
            successor_used = successor.used is not None
        except NotFound:
            successor_used = False  # the login died between its two writes
        if successor_used or self._now_s() > used.at_s + REFRESH_GRACE_S:
            await self._revoke(held.family)
            raise Unauthorized("this token was used before: signed out everywhere")
        return await self._hand_out(token, held, used)

    async def _hand_out(self, token: str, held: RefreshToken, used: Used) -> Signed:
        successor = _successor(token, used.salt)
        account = await self.account(held.account)
        with suppress(Exists):  # handed out before
            await self._insert_token(successor, held.account, held.family)
        return Signed(held.account, account.avatar, account.name, successor, held.family)

    async def _insert_token(self, token: str, account: str, family: str) -> None:
        expires_s = self._now_s() + REFRESH_TOKEN_S
        await self._documents.insert(_key(token), RefreshToken(account, family, expires_s, self._documents.write_id()))

    async def _revoke(self, family: str) -> None:
        for _try in range(LOGIN_WRITE_TRIES):
            held, cas = await self._documents.get(f"family:{family}", Family)
            if held.revoked or await self._write_family(family, msgspec.structs.replace(held, revoked=True), cas):
                return
        raise Temporary(f"family:{family} is being written")

    async def _write_family(self, key: str, family: Family, cas: int) -> bool:
        """False where another wrote it meanwhile."""
        stamped = msgspec.structs.replace(family, write=self._documents.write_id())
        try:
            await self._documents.replace(f"family:{key}", stamped, cas)
        except CasMismatch:
            return False
        return True

    def _now_s(self) -> int:
        return self._now_ms() // 1_000


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _kind_of(key: str) -> str:
    """account, family or token: the kind in ``world.upgrades``."""
    return key.partition(":")[0]


def _decode(value: bytes, kind: type[D]) -> D:
    try:
        return msgspec.json.decode(value, type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadDocument(str(error)) from error


def _key(token: str) -> str:
    return f"token:{hashlib.sha256(token.encode()).hexdigest()}"


def _successor(token: str, salt: str) -> str:
    return _text(hashlib.sha256(f"{salt}:{token}".encode()).digest())
