"""Where to ask: the listeners that a running cluster has written down, or those named by flags.

``{data}/ops.json``, written by the supervisor: ``{"urls": ["http://127.0.0.1:…", …], "token_file": "…"}``.
"""

from pathlib import Path
from typing import NamedTuple

import msgspec

from runtime.settings import Settings


class CannotAsk(Exception):
    """One sentence for the person at the terminal: why nobody answers, or why not so, and what to do."""


class Found(NamedTuple):
    """``urls``: base URLs of listeners, the first is asked first."""

    urls: tuple[str, ...]
    token: str
    where: str  # how they were found, for sentences


class _Written(msgspec.Struct):
    urls: list[str]
    token_file: str


def find(settings: Settings) -> Found:
    """By --ops, else by what the data folder says. Raises CannotAsk."""
    own_token = settings.ops_token_file
    if settings.ops_url:
        token_file = own_token or settings.data / "keys" / "ops.token"
        return Found(settings.ops_url, _token(token_file), "named by --ops")
    path = settings.data / "ops.json"
    try:
        written = msgspec.json.decode(path.read_bytes(), type=_Written)
    except FileNotFoundError:
        raise CannotAsk(
            f"No cluster runs on {settings.data} (it has no ops.json): start one with projectk up, say which folder "
            f"with --data, or name a gateway's listener with --ops."
        ) from None
    except (OSError, ValueError) as error:
        raise CannotAsk(f"{path} cannot be read ({error}); name a gateway's listener with --ops.") from error
    token_file = own_token or settings.data / written.token_file  # an absolute one stays what it is
    return Found(tuple(url.rstrip("/") for url in written.urls), _token(token_file), f"of {path}")


def _token(path: Path) -> str:
    try:
        return path.read_text("ascii").strip()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it holds no token"
        raise CannotAsk(f"The operators' token {path} cannot be read ({reason}); name it with --token-file.") from error
