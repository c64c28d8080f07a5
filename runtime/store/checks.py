"""What every store refuses before it looks anything up; the same for all implementations."""

from collections.abc import Sequence

from runtime.store.api import TooLarge
from world import limits
from world.message_values import BatchedWrite

_WRITES = frozenset({"insert", "replace", "remove"})
_SURELY_FITS = limits.STORE_KEY_BYTES // 4  # characters: none takes more than four bytes


def check_key(key: str) -> None:
    """``{kind}:{rest}``, both non-empty, printable, at most STORE_KEY_BYTES of UTF-8. Raises TooLarge."""
    if not _well_formed(key):
        raise TooLarge(f"malformed key {key[:64]!r}")
    if len(key) > _SURELY_FITS and len(key.encode()) > limits.STORE_KEY_BYTES:
        raise TooLarge(f"key of more than {limits.STORE_KEY_BYTES} bytes")


def _well_formed(key: str) -> bool:
    return 0 < key.find(":") < len(key) - 1 and key.isprintable()


def check_value(value: bytes) -> None:
    """Raises TooLarge."""
    if len(value) > limits.STORE_VALUE_BYTES:
        raise TooLarge(f"value of {len(value)} bytes, more than {limits.STORE_VALUE_BYTES}")


def check_write(write: BatchedWrite) -> None:
    """Raises TooLarge."""
    if write.op not in _WRITES:
        raise TooLarge(f"no such write: {write.op}")
    check_key(write.key)
    check_value(write.value)


def surely_sound(write: BatchedWrite) -> bool:
    """``check_write`` would raise nothing: one call for nearly all of a message's writes. False: look closely."""
    return (
        write.op in _WRITES
        and len(write.value) <= limits.STORE_VALUE_BYTES
        and len(write.key) <= _SURELY_FITS
        and _well_formed(write.key)
    )


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
