"""What every store refuses before it looks anything up; the same for all implementations."""

from collections.abc import Sequence

from runtime.store.api import TooLarge
from world import limits


def check_key(key: str) -> None:
    """``{kind}:{rest}``, both non-empty, printable, at most STORE_KEY_BYTES of UTF-8. Raises TooLarge."""
    kind, _, rest = key.partition(":")
    if not kind or not rest or not key.isprintable():
        raise TooLarge(f"malformed key {key[:64]!r}")
    if len(key.encode()) > limits.STORE_KEY_BYTES:
        raise TooLarge(f"key of more than {limits.STORE_KEY_BYTES} bytes")


def check_value(value: bytes) -> None:
    """Raises TooLarge."""
    if len(value) > limits.STORE_VALUE_BYTES:
        raise TooLarge(f"value of {len(value)} bytes, more than {limits.STORE_VALUE_BYTES}")


def check_keys(keys: Sequence[str]) -> None:
    """Raises TooLarge."""
    if len(keys) > limits.STORE_MANY_KEYS:
        raise TooLarge(f"{len(keys)} keys at once, more than {limits.STORE_MANY_KEYS}")
    for key in keys:
        check_key(key)


def check_list(kind: str, after: str, limit: int) -> None:
    """Raises TooLarge."""
    if not kind or not (kind + after).isprintable():
        raise TooLarge(f"malformed kind {kind[:64]!r}")
    if max(len(kind.encode()), len(after.encode())) > limits.STORE_KEY_BYTES:
        raise TooLarge(f"kind or key of more than {limits.STORE_KEY_BYTES} bytes")
    if not 0 <= limit <= limits.STORE_LIST_KEYS:
        raise TooLarge(f"a list of {limit} keys, more than {limits.STORE_LIST_KEYS}")


def check_counter(key: str, delta: int, initial: int) -> None:
    """Counters only rise. Raises TooLarge."""
    check_key(key)
    if not 0 <= delta <= 0xFFFFFFFF or not 0 <= initial <= limits.STORE_COUNTER_STEPS:
        raise TooLarge(f"counter {key!r}: delta {delta}, initial {initial}")
