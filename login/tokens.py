"""This login's signing key, and all logins' public ones.

The private key is made at a login's first start and never leaves its file (mode 0600); the public one is a store
document ``signkey:{kid}``, so that whichever login is asked can name every key that ever signed.
"""

import base64
import hashlib
import os
from contextlib import suppress
from pathlib import Path

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from runtime import tokens
from runtime.service import StartRefused
from runtime.store.api import Exists, Store, StoreError
from world.limits import PUBLIC_KEYS


def load_or_make_key(path: Path) -> Ed25519PrivateKey:
    """Raises StartRefused: the folder cannot be written, or the file is no key."""
    try:
        if not path.exists():
            _write_key(path)
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError) as error:
        raise StartRefused(f"The signing key {path} cannot be used: {error}.") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise StartRefused(f"The signing key {path} is no Ed25519 key.")
    return key


def _write_key(path: Path) -> None:
    """Whole or not at all: a crash leaves no half key behind."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    draft = path.with_suffix(".new")
    draft.unlink(missing_ok=True)
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(pem)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


class Signer:
    """Signs with one private key."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public_text = tokens.public_text(private.public_key())
        digest = hashlib.sha256(base64.b64decode(self.public_text)).digest()
        self.kid = base64.urlsafe_b64encode(digest[:12]).decode()

    def sign(self, claims: tokens.Claims) -> str:
        return tokens.sign(self._private, self.kid, claims)


class PublicKeyRing:
    """All logins' public keys: this login's own at once, the others' from the store."""

    def __init__(self, store: Store, signer: Signer, node_id: str) -> None:
        self._store = store
        self._signer = signer
        self._node_id = node_id
        self._known = {signer.kid: signer.public_text}
        self.published = False

    async def publish(self) -> None:
        """Put the own key into the store. Raises StoreError; safe to repeat."""
        document = {"format": 1, "public": self._signer.public_text, "node": self._node_id}
        with suppress(Exists):  # an earlier start's
            await self._store.insert(f"signkey:{self._signer.kid}", orjson.dumps(document))
        self.published = True

    async def all(self) -> tuple[dict[str, str], bool]:
        """kid -> base64 of the public key, and whether these are all: else the store does not answer just now."""
        try:
            keys = await self._store.list("signkey", limit=PUBLIC_KEYS)
            missing = [key for key in keys if key.partition(":")[2] not in self._known]
            for key, document in (await self._store.get_many(missing)).items() if missing else ():
                self._known[key.partition(":")[2]] = orjson.loads(document.value)["public"]
        except StoreError:
            return dict(self._known), False
        return dict(self._known), True
