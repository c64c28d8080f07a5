"""The operators' bearer token: one file for all gateways of a machine, made by whichever starts first."""

import hmac
import os
import secrets
from pathlib import Path

from runtime.service import StartRefused
from world.limits import OPS_TOKEN_BYTES

_LENGTHS = range(16, 513)  # characters; a shorter one could be guessed, a longer one is some other file


def token_path(data: Path, override: Path | None) -> Path:
    return override or data / "keys" / "ops.token"


def load_or_make_token(path: Path) -> str:
    """Raises StartRefused: the folder cannot be written, or the file holds no token."""
    try:
        if not path.exists():
            _make(path)
        token = path.read_text("ascii").strip()
    except (OSError, ValueError) as error:
        raise StartRefused(f"The operators' token {path} cannot be used: {error}.") from error
    if len(token) not in _LENGTHS or not token.isprintable() or " " in token:
        raise StartRefused(f"The operators' token {path} is no token: 16 to 512 characters in one line.")
    return token


def _make(path: Path) -> None:
    """Whole or not at all, and only the first of several at once: a link never replaces what is there."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secrets.token_urlsafe(OPS_TOKEN_BYTES) + "\n")
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(draft, path)
    except FileExistsError:
        return  # another gateway was faster: its token counts
    finally:
        draft.unlink()


def same_token(given: str, token: str) -> bool:
    """In a time that does not tell how much of it was right."""
    return hmac.compare_digest(given.encode(), token.encode())
