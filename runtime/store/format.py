"""``cluster:format``: what all processes of a world agree on before one of them touches its documents.

::

    cluster:format      {format, world_seed}

The first to look inserts it. ``format`` is what everyone writes (``world.upgrades``); the end of a deploy raises it by
compare-and-swap, and all who write documents follow within FORMAT_LOOK_MS. Who has not yet writes an older format,
which all read. ``world_seed`` never changes: documents hold only what differs from what the seed gives.

While a world is being copied here (``runtime.store.migration``) the document has MIGRATION_FORMAT, which nobody speaks,
and says in ``migrating_from`` where the rest is: nobody starts on half a world.
"""

import asyncio
from contextlib import suppress

import msgspec

from runtime.service import StartRefused
from runtime.store.api import Ambiguous, CasMismatch, Document, Exists, NotFound, Store, StoreError
from world.limits import FORMAT, FORMAT_LOOK_MS, FORMAT_MIN, STORE_RETRY_CAP_MS, STORE_RETRY_MS
from world.message_values import Json

KEY = "cluster:format"
MIGRATION_FORMAT = 0


class ClusterFormat(msgspec.Struct, frozen=True, omit_defaults=True):
    format: int
    world_seed: int
    migrating_from: str = ""


class OutOfFormat(RuntimeError):
    """The cluster has gone on to a format that this release does not write: the process ends."""


class AgreedFormat:
    """The format of documents that this process writes; it only rises."""

    def __init__(self, number: int = FORMAT) -> None:
        self.number = number

    async def follow(self, store: Store) -> None:
        """For ever: look every FORMAT_LOOK_MS. Raises OutOfFormat."""
        while True:
            await asyncio.sleep(FORMAT_LOOK_MS / 1_000)
            with suppress(StoreError):
                await self.look(store)

    async def look(self, store: Store) -> None:
        """Raises OutOfFormat, StoreError."""
        found = _parse((await store.get(KEY)).value).format
        if found > FORMAT:
            raise OutOfFormat(f"documents have format {found} by now, and this release writes {FORMAT_MIN} to {FORMAT}")
        self.number = max(self.number, found)


async def agree(store: Store, world_seed: int) -> AgreedFormat:
    """What the world writes, once it is known to be of this seed and of a format that this release speaks; waits for
    the store as long as it takes. Raises StartRefused."""
    mine = msgspec.json.encode(ClusterFormat(FORMAT, world_seed))
    pause_ms = STORE_RETRY_MS
    while True:
        try:
            found = await _first(store, mine)
        except StoreError:
            await asyncio.sleep(pause_ms / 1_000)
            pause_ms = min(pause_ms * 2, STORE_RETRY_CAP_MS)
            continue
        return AgreedFormat(_compared(found, world_seed))


async def _first(store: Store, mine: bytes) -> Document:
    """What is there, or mine where nothing is: whoever inserted it, the content is what counts. Raises StoreError."""
    try:
        return await store.get(KEY)
    except NotFound:
        with suppress(Exists):  # another's, or my own of an answer that was lost
            await store.insert(KEY, mine)
        return await store.get(KEY)


async def raise_to(store: Store, number: int) -> tuple[int, int]:
    """(format before, format now): never lowered, whoever else raises it meanwhile. For who writes no documents
    himself, and may not know what the number means. Raises StoreError."""
    before = 0
    while True:
        found = await store.get(KEY)
        now = _parse(found.value).format
        before = before or now
        if now >= number:
            return before, now
        document = msgspec.json.decode(found.value, type=Json) | {"format": number}
        with suppress(CasMismatch, Ambiguous):  # the next look says which it was
            await store.replace(KEY, msgspec.json.encode(document), found.cas)


def _parse(value: bytes) -> ClusterFormat:
    return msgspec.json.decode(value, type=ClusterFormat)


def _compared(found: Document, world_seed: int) -> int:
    try:
        world = _parse(found.value)
    except (msgspec.DecodeError, RecursionError) as error:
        raise StartRefused(f"The store's document {KEY} cannot be read: {error}.") from error
    if world.migrating_from:
        raise StartRefused(
            f"The store holds half a world, which is being copied from {world.migrating_from}: "
            "let projectk migrate-store come to its end, and start then."
        )
    if not FORMAT_MIN <= world.format <= FORMAT:
        raise StartRefused(
            f"The store's documents have format {world.format}, and this release writes {FORMAT_MIN} to {FORMAT}: "
            "run a release that writes it."
        )
    if world.world_seed != world_seed:
        raise StartRefused(
            f"--world-seed {world_seed}: this world was made with --world-seed {world.world_seed}; "
            "start it with that seed, or another world with another --data folder."
        )
    return world.format
