"""``cluster:format``: what all processes of a world agree on before one of them touches its documents.

::

    cluster:format      {format, world_seed}

The first to look inserts it. ``format`` is what everyone writes; the end of a deploy raises it by compare-and-swap.
``world_seed`` never changes: documents hold only what differs from what the seed gives.
"""

import asyncio
from contextlib import suppress

import msgspec

from runtime.service import StartRefused
from runtime.store.api import Document, Exists, NotFound, Store, StoreError
from world.limits import FORMAT, FORMAT_MIN, STORE_RETRY_CAP_MS, STORE_RETRY_MS

KEY = "cluster:format"


class ClusterFormat(msgspec.Struct, frozen=True):
    format: int
    world_seed: int


async def agree(store: Store, world_seed: int) -> None:
    """Return once the world is known to be of this seed and of a format that this release speaks; waits for the store
    as long as it takes. Raises StartRefused."""
    mine = msgspec.json.encode(ClusterFormat(FORMAT, world_seed))
    pause_ms = STORE_RETRY_MS
    while True:
        try:
            found = await _first(store, mine)
        except StoreError:
            await asyncio.sleep(pause_ms / 1_000)
            pause_ms = min(pause_ms * 2, STORE_RETRY_CAP_MS)
            continue
        _compare(found, world_seed)
        return


async def _first(store: Store, mine: bytes) -> Document:
    """What is there, or mine where nothing is: whoever inserted it, the content is what counts. Raises StoreError."""
    try:
        return await store.get(KEY)
    except NotFound:
        with suppress(Exists):  # another's, or my own of an answer that was lost
            await store.insert(KEY, mine)
        return await store.get(KEY)


def _compare(found: Document, world_seed: int) -> None:
    try:
        world = msgspec.json.decode(found.value, type=ClusterFormat)
    except (msgspec.DecodeError, RecursionError) as error:
        raise StartRefused(f"The store's document {KEY} cannot be read: {error}.") from error
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
