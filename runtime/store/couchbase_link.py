"""The connection to a Couchbase bucket: opened and checked, with a bounded number of calls under way.

Requests are built by the SDK, handed to it as futures, and awaited behind a shield: a caller that is cancelled leaves
its call alone, which keeps its place until it has ended. (The SDK's own coroutines would have the cancelled future set
later, which is an error in the loop, and cost twice the time: decision 14.) The SDK's deadlines are the only ones.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any, NoReturn

from acouchbase.cluster import AsyncCluster
from couchbase import exceptions as sdk
from couchbase.auth import PasswordAuthenticator
from couchbase.durability import DurabilityLevel, ServerDurability
from couchbase.options import (
    ClusterOptions,
    ClusterTimeoutOptions,
    ClusterTracingOptions,
    GetAllReplicasOptions,
    UpsertOptions,
)
from couchbase.transcoder import RawJSONTranscoder

from runtime.store.api import (
    Ambiguous,
    CasMismatch,
    Durability,
    Exists,
    NotFound,
    StoreError,
    StoreOpenError,
    Temporary,
    TooLarge,
    Unavailable,
)
from runtime.store.opening import PASSWORD, USER, CouchbaseUrl, Credentials
from runtime.store.slots import Slots
from world import limits

PROBE = ":opened"  # outside of the namespace of documents, as all keys that begin with a colon
TRANSCODER = RawJSONTranscoder()  # values are JSON bytes already
CALL = timedelta(milliseconds=limits.STORE_CALL_MS)
_CONNECT = timedelta(milliseconds=limits.STORE_CONNECT_MS)
_SERVER_LEVEL = {
    Durability.NONE: None,
    Durability.MAJORITY: ServerDurability(DurabilityLevel.MAJORITY),
    Durability.MAJORITY_AND_PERSIST_ACTIVE: ServerDurability(DurabilityLevel.MAJORITY_AND_PERSIST_TO_ACTIVE),
    Durability.PERSIST_TO_MAJORITY: ServerDurability(DurabilityLevel.PERSIST_TO_MAJORITY),
}

_KNOWN: dict[type[Exception], type[StoreError]] = {
    sdk.DocumentNotFoundException: NotFound,
    sdk.DocumentExistsException: Exists,
    sdk.CasMismatchException: CasMismatch,
    # certainly not applied, and may go better soon
    sdk.TemporaryFailException: Temporary,
    sdk.DocumentLockedException: Temporary,
    sdk.DurabilitySyncWriteInProgressException: Temporary,
    sdk.RateLimitedException: Temporary,
    sdk.QuotaLimitedException: Temporary,
    # certainly not applied: the request never left, or the server has refused it as a whole
    sdk.UnAmbiguousTimeoutException: Unavailable,
    sdk.DurabilityImpossibleException: Unavailable,
    sdk.DurabilityInvalidLevelException: Unavailable,
    sdk.AuthenticationException: Unavailable,
    sdk.BucketNotFoundException: Unavailable,
    sdk.ServiceUnavailableException: Unavailable,
    sdk.FeatureUnavailableException: Unavailable,
    sdk.InvalidArgumentException: TooLarge,
}
Request = Any  # of the SDK's core
Builder = Callable[..., Request]


class Link:
    """An opened bucket. ``build`` makes requests, ``read`` and ``write`` run one each."""

    def __init__(self, cluster: AsyncCluster, collection: Any, highest: Durability) -> None:
        self._cluster = cluster
        self._adapter = collection._impl.client_adapter
        self.build = collection._impl.request_builder
        self.slots = Slots(
            limits.STORE_COUCHBASE_CALLS, queue=limits.STORE_COUCHBASE_WAITERS, wait_ms=limits.STORE_CALL_MS
        )
        self.levels = {level: _SERVER_LEVEL[min(level, highest)] for level in Durability}
        self.outcomes: dict[str, int] = {}  # refusals and failures by code
        self._closed = False

    async def read(self, request: Request) -> dict[str, Any]:
        """Its result. Raises what the server says, Unavailable for all else."""
        try:
            return await self._run(request)
        except sdk.CouchbaseException as error:
            raise self._counted(_KNOWN.get(type(error), Unavailable), error) from error

    async def write(self, request: Request) -> dict[str, Any]:
        """Its result. Raises what the server says, Ambiguous for all else: timed out or cut off under way, the
        server's own «ambiguous», and whatever does not say that nothing was applied."""
        try:
            return await self._run(request)
        except sdk.CouchbaseException as error:
            raise self._counted(_KNOWN.get(type(error), Ambiguous), error) from error

    async def _run(self, request: Request) -> dict[str, Any]:
        slots = self.slots
        if slots.free:
            slots.free -= 1
        else:
            await slots.take()
        try:
            if self._closed:
                raise Unavailable("the store is closed")
            future = self._adapter.execute_collection_request(request.opcode, request)
        except BaseException:
            slots.give()
            raise
        future.add_done_callback(slots.give)
        result: dict[str, Any] = (await asyncio.shield(future)).raw_result
        return result

    def _counted(self, kind: type[StoreError], error: sdk.CouchbaseException) -> StoreError:
        self.outcomes[kind.code] = self.outcomes.get(kind.code, 0) + 1
        return kind(_short(error))

    async def close(self) -> None:
        """Calls under way get their answer first; later ones raise Unavailable. May be called again."""
        if self._closed:
            return
        self._closed = True
        await self.slots.emptied(limits.STORE_CALL_MS)
        await _close(self._cluster)


async def open_link(url: CouchbaseUrl, credentials: Credentials) -> Link:
    """Connect, see that the bucket is there and can give the durability asked for. Raises StoreOpenError."""
    cluster = AsyncCluster(url.nodes, _options(url, credentials))
    try:
        async with asyncio.timeout(limits.STORE_OPEN_MS / 1_000):
            collection = await _connected(cluster, url)
            link = Link(cluster, collection, url.durability)
            await _check_durability(collection, url)
    except StoreOpenError:
        await _close(cluster)
        raise
    except TimeoutError:
        await _close(cluster)
        _refuse(url, f"did not answer within {limits.STORE_OPEN_MS / 1_000:.0f} s: see that its nodes are healthy")
    except BaseException:
        await _close(cluster)
        raise
    return link


def _options(url: CouchbaseUrl, credentials: Credentials) -> ClusterOptions:
    certificate = {"cert_path": str(url.certificate)} if url.certificate is not None else {}
    return ClusterOptions(
        PasswordAuthenticator(credentials.user, credentials.password, **certificate),
        timeout_options=ClusterTimeoutOptions(
            bootstrap_timeout=_CONNECT,
            resolve_timeout=_CONNECT,
            connect_timeout=_CONNECT,
            dns_srv_timeout=_CONNECT,
            kv_timeout=CALL,
            kv_durable_timeout=CALL,
        ),
        tracing_options=ClusterTracingOptions(enable_tracing=False),
        enable_tracing=False,
        enable_metrics=False,  # ours are on /metrics; the SDK's cost as much time as a call
        config_poll_interval=timedelta(milliseconds=limits.STORE_CONFIG_POLL_MS),
        network=url.network,
    )


async def _connected(cluster: AsyncCluster, url: CouchbaseUrl) -> Any:
    try:
        await cluster.on_connect()
    except sdk.AuthenticationException as error:
        _refuse(url, f"refuses these credentials: check {USER} and {PASSWORD}, or their _FILEs", error)
    except sdk.CouchbaseException as error:
        hosts = ", ".join(url.hosts)
        _refuse(url, f"cannot be reached at {hosts}: check the hosts, their ports and that Couchbase runs there", error)
    try:
        bucket = cluster.bucket(url.bucket)
        await bucket.on_connect()
    except sdk.BucketNotFoundException as error:
        _refuse(url, f"has no bucket {url.bucket}: create it with 1 or 2 replicas, or correct PROJECTK_STORE", error)
    except sdk.AuthenticationException as error:
        _refuse(url, f"does not let this user at bucket {url.bucket}: grant it, or correct PROJECTK_STORE", error)
    except sdk.CouchbaseException as error:
        _refuse(url, f"does not open bucket {url.bucket}: see that it is healthy in Couchbase's console", error)
    return bucket.default_collection()


async def _check_durability(collection: Any, url: CouchbaseUrl) -> None:
    """One write at the highest level that will be asked for, and looks at how many copies the bucket keeps: a copy
    whose node does not answer just now is not told apart from one that is not kept."""
    if not await _probe(collection, url) or url.durability is Durability.NONE:
        return
    for look in range(limits.STORE_REPLICA_LOOKS):
        await asyncio.sleep(limits.STORE_REPLICA_LOOK_MS / 1_000 if look else 0)
        try:
            copies = len(list(await collection.get_all_replicas(PROBE, GetAllReplicasOptions(timeout=CALL))))
        except sdk.CouchbaseException as error:
            _refuse(url, "cannot read its replicas: see that the bucket's nodes are healthy", error)
        if copies >= 2:
            return
    _refuse(
        url,
        f"keeps one copy only, and durability={_level(url)} needs two: give bucket {url.bucket} 1 or 2 replicas, "
        "or add ?durability=none to PROJECTK_STORE and accept losses",
    )


async def _probe(collection: Any, url: CouchbaseUrl) -> bool:
    """The node that holds it may still be connecting: tried again until the caller's timeout."""
    level = _SERVER_LEVEL[url.durability]
    options = UpsertOptions(timeout=CALL, transcoder=TRANSCODER, **({"durability": level} if level else {}))
    while True:
        try:
            await collection.upsert(PROBE, b"{}", options)
            return True
        except sdk.DurabilityImpossibleException as error:
            _refuse(
                url,
                f"has too few nodes for the replicas of bucket {url.bucket} at durability={_level(url)}: add nodes, "
                "or name a lower ?durability= in PROJECTK_STORE",
                error,
            )
        except sdk.AuthenticationException as error:
            _refuse(url, f"does not let this user write to bucket {url.bucket}: grant it reading and writing", error)
        except sdk.CouchbaseException:
            await asyncio.sleep(limits.STORE_RETRY_MS / 1_000)


async def _close(cluster: AsyncCluster) -> None:
    with suppress(sdk.CouchbaseException, RuntimeError):  # one that never connected says so again
        await cluster.close()


def _level(url: CouchbaseUrl) -> str:
    from runtime.store.opening import LEVELS

    return next(name for name, level in LEVELS.items() if level is url.durability)


def _refuse(url: CouchbaseUrl, problem: str, error: Exception | None = None) -> NoReturn:
    raise StoreOpenError(f"The store {url} {problem}.") from error


def _short(error: sdk.CouchbaseException) -> str:
    """Its name and key, without the SDK's page of context."""
    context = error.context
    return f"{type(error).__name__.removesuffix('Exception')} {getattr(context, 'key', '') or ''}".rstrip()
