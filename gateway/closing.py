"""The close codes of the game socket: one table, documented in docs/protocol/07."""

from typing import Final, NamedTuple


class Closing(NamedTuple):
    code: int
    name: str  # the close frame's reason, the counter's label
    reconnect: str  # what a client does, as in the documentation


BYE: Final = Closing(1000, "bye", "no")
NOT_UTF8: Final = Closing(1007, "not_utf8", "no")
TOO_BIG: Final = Closing(1009, "too_big", "no")
RESTARTING: Final = Closing(1012, "restarting", "yes, at once, at another gateway")
BAD_MESSAGE: Final = Closing(4000, "bad_message", "no")
UNAUTHORIZED: Final = Closing(4001, "unauthorized", "yes, once, with a new access token")
REPLACED: Final = Closing(4002, "replaced", "no")
TOO_SLOW: Final = Closing(4003, "too_slow", "yes")
RATE_LIMITED: Final = Closing(4004, "rate_limited", "yes, after backoff")
SILENT: Final = Closing(4005, "silent", "yes")
VERSION: Final = Closing(4006, "version", "no: load the client anew")
SESSION_EXPIRED: Final = Closing(4008, "session_expired", "yes: identify anew")
FULL: Final = Closing(4009, "full", "yes, after backoff")
HANDSHAKE_TIMEOUT: Final = Closing(4010, "handshake_timeout", "yes")
LOGGED_OUT: Final = Closing(4011, "logged_out", "no")

ALL: Final = tuple(v for v in list(globals().values()) if isinstance(v, Closing))
