"""Access and resume tokens: JSON web tokens signed with Ed25519. Logins sign, gateways and logins verify.

Claims: ``aud`` access | resume, ``sub`` account, ``av`` avatar, ``name``, ``iat``, ``exp`` (s); resume
tokens also ``ses``, access tokens ``fam``, the sign-in (family of refresh tokens) whose end is theirs.
The header names the key (``kid``). Time is handed in, so that tokens live in virtual time too.
"""

import base64
import binascii
from collections.abc import Mapping
from typing import Any

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from world.limits import TOKEN_LEEWAY_S
from world.messages import U53, Name, Short

ALGORITHM = "EdDSA"
ACCESS, RESUME = "access", "resume"


class BadToken(Exception):
    """Forged, malformed, of another purpose, or expired."""


class UnknownKey(Exception):
    """Signed by a key that is not at hand; perhaps a new login's."""


class Claims(msgspec.Struct, frozen=True):
    """What a verified token says."""

    sub: Name
    av: U53
    name: Short
    aud: Short
    iat: U53
    exp: U53
    ses: U53 = 0
    fam: Short = ""  # "": of a release that did not name it yet


def sign(private: Ed25519PrivateKey, kid: str, claims: Claims) -> str:
    return jwt.encode(msgspec.to_builtins(claims), private, algorithm=ALGORITHM, headers={"kid": kid})


def key_id(token: str) -> str:
    """Which key signed it, unverified. Raises BadToken."""
    try:
        kid = jwt.get_unverified_header(token).get("kid")
    except (jwt.PyJWTError, ValueError, RecursionError) as error:
        raise BadToken("malformed") from error
    if not isinstance(kid, str):
        raise BadToken("names no key")
    return kid


def verify(token: str, keys: Mapping[str, Ed25519PublicKey], purpose: str, now_s: float) -> Claims:
    """Raises BadToken, UnknownKey."""
    public = keys.get(key_id(token))
    if public is None:
        raise UnknownKey
    checks: Any = {"verify_exp": False, "verify_iat": False, "verify_nbf": False}
    try:
        said = jwt.decode(token, public, algorithms=[ALGORITHM], audience=purpose, options=checks)
        claims = msgspec.convert(said, Claims)
    except (jwt.PyJWTError, ValueError, RecursionError) as error:
        raise BadToken(str(error)) from error
    if now_s > claims.exp + TOKEN_LEEWAY_S:
        raise BadToken("expired")
    return claims


def public_text(public: Ed25519PublicKey) -> str:
    """Base64 of the 32 raw bytes, as ``PublicKeys`` and ``signkey:`` documents carry it."""
    return base64.b64encode(public.public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()


def public_key(text: str) -> Ed25519PublicKey:
    """Raises BadToken where the text is no key."""
    try:
        return Ed25519PublicKey.from_public_bytes(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError) as error:
        raise BadToken("no public key") from error
