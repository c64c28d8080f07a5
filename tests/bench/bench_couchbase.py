"""The Couchbase adapter against the SDK itself: ``python -m tests.bench.bench_couchbase [--seconds S]``.

Replaces by CAS of 1,000-byte documents, 64 in flight, without durability (the mock knows none), on one mock without
the wire shim, in one process and on one connection. The two ways take turns of half a second, so that what else the
machine does falls on both alike, and the ratio is that of each pair's; the median counts. ``SDK`` is the public
``acouchbase`` call with the adapter's own settings (no tracing, no metrics of the SDK).
"""

import argparse
import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable

import uvloop
from couchbase.options import ReplaceOptions

from runtime.store.api import Durability
from runtime.store.couchbase import CouchbaseStore
from runtime.store.couchbase_link import CALL, TRANSCODER
from runtime.store.opening import CouchbaseUrl, open_couchbase, parse_store_url
from tests.support.couchbase_mock import couchbase_mock
from world.limits import STORE_COUCHBASE_CALLS

TURN_S = 0.5
VALUE = b'{"x":"' + b"x" * 990 + b'"}'
Replace = Callable[[str, int], Awaitable[int]]


async def turn(replace: Replace, tokens: dict[str, int], seconds: float) -> tuple[float, list[float]]:
    """(calls a second, their latencies in s)."""
    latencies: list[float] = []
    started = time.perf_counter()

    async def write(key: str) -> None:
        while (begun := time.perf_counter()) < started + seconds:
            tokens[key] = await replace(key, tokens[key])
            latencies.append(time.perf_counter() - begun)

    await asyncio.gather(*map(write, tokens))
    return len(latencies) / (time.perf_counter() - started), latencies


async def measure(store: CouchbaseStore, bucket: str, seconds: float) -> None:
    collection = store._link._cluster.bucket(bucket).default_collection()

    async def sdk(key: str, cas: int) -> int:
        options = ReplaceOptions(cas=cas, transcoder=TRANSCODER, timeout=CALL)
        token: int = (await collection.replace(key, VALUE, options)).cas
        return token

    async def adapter(key: str, cas: int) -> int:
        return await store.replace(key, VALUE, cas, durability=Durability.NONE)

    keys = [f"unit:{n}" for n in range(STORE_COUCHBASE_CALLS)]
    tokens = {key: await store.insert(key, VALUE, durability=Durability.NONE) for key in keys}
    ways = {"SDK": sdk, "adapter": adapter}
    rates: dict[str, list[float]] = {way: [] for way in ways}
    latencies: dict[str, list[float]] = {way: [] for way in ways}
    for way in ways.values():  # the virtual machine warms up
        await turn(way, tokens, 2 * TURN_S)
    for n in range(max(1, round(seconds / TURN_S / 2))):
        for name, way in list(ways.items())[:: 1 if n % 2 else -1]:
            rate, took = await turn(way, tokens, TURN_S)
            rates[name].append(rate)
            latencies[name] += took
    print("way       calls/s   p50 ms   p99 ms")
    for name in ways:
        took = sorted(latencies[name])
        p50, p99 = took[len(took) // 2], took[len(took) * 99 // 100]
        print(f"{name:8} {statistics.median(rates[name]):8.0f} {p50 * 1e3:8.2f} {p99 * 1e3:8.2f}")
    ratios = [ours / theirs for ours, theirs in zip(rates["adapter"], rates["SDK"], strict=True)]
    print(f"adapter / SDK, median of {len(ratios)} pairs: {statistics.median(ratios):.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Couchbase adapter against the SDK.")
    parser.add_argument("--seconds", type=float, default=20.0, help="for the whole run")
    seconds = parser.parse_args().seconds
    with couchbase_mock(shimmed=False) as mock, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        url = parse_store_url(f"{mock.url}?durability=none")
        assert isinstance(url, CouchbaseUrl)

        async def bench(url: CouchbaseUrl) -> None:
            store = await open_couchbase(url, mock.credentials)
            try:
                await measure(store, mock.bucket, seconds)
            finally:
                await store.close()

        runner.run(bench(url))


if __name__ == "__main__":
    main()
