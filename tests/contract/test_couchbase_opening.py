"""Opening a store on Couchbase that cannot be used: one sentence that says what to do, within ten seconds."""

import asyncio
import dataclasses

import pytest

from runtime.store import couchbase_link
from runtime.store.api import (
    Durability,
    StoreOpenError,
)
from runtime.store.opening import CouchbaseUrl, Credentials, open_couchbase, parse_store_url
from tests.support.aio import run
from tests.support.couchbase_mock import (
    couchbase_mock,
    shared_mock,
)
from tests.support.on_couchbase import url_of
from world import limits


def refused(url: CouchbaseUrl, credentials: Credentials, within_s: float = 10) -> str:
    async def body() -> str:
        with pytest.raises(StoreOpenError) as error:
            async with asyncio.timeout(within_s):
                await open_couchbase(url, credentials)
        return str(error.value)

    sentence = run(body())
    assert sentence.startswith(f"The store {url} ")
    assert sentence.endswith(".")
    return sentence


def test_a_wrong_password_is_one_sentence_without_it() -> None:
    mock = shared_mock()
    for credentials in (Credentials(mock.user, "hunter2"), Credentials("somebody", mock.password)):
        sentence = refused(url_of(mock), credentials)
        assert "check PROJECTK_STORE_USER and PROJECTK_STORE_PASSWORD" in sentence
        assert not any(secret in sentence for secret in ("hunter2", "somebody", mock.password))


def test_a_missing_bucket_is_one_sentence() -> None:
    mock = shared_mock()
    url = dataclasses.replace(url_of(mock), bucket="elsewhere")
    assert "has no bucket elsewhere: create it" in refused(url, mock.credentials)


def test_an_unreachable_host_is_one_sentence() -> None:
    url = parse_store_url("couchbase://127.0.0.1:1/world")
    assert isinstance(url, CouchbaseUrl)
    assert "cannot be reached at 127.0.0.1:1: check the hosts" in refused(url, Credentials("a", "b"))


def test_a_bucket_that_cannot_give_the_durability_asked_for_is_one_sentence(
    request: pytest.FixtureRequest,
) -> None:
    mock = shared_mock()
    mock.shim.impossible = Durability.MAJORITY
    try:
        sentence = refused(url_of(mock), mock.credentials)
        assert "has too few nodes for the replicas of bucket world at durability=persistToMajority" in sentence
        run(_opens(url_of(mock, "?durability=none"), mock.credentials))
    finally:
        mock.shim.impossible = None


def test_a_bucket_without_replicas_is_one_sentence() -> None:
    with couchbase_mock(nodes=1, replicas=0) as mock:
        sentence = refused(url_of(mock), mock.credentials)
        assert "keeps one copy only, and durability=persistToMajority needs two" in sentence
        run(_opens(url_of(mock, "?durability=none"), mock.credentials))


class Copies:
    """A collection that answers with so many copies, look after look."""

    def __init__(self, *looks: int) -> None:
        self._looks = list(looks)

    async def upsert(self, *_: object) -> None: ...

    async def get_all_replicas(self, *_: object) -> list[object]:
        return [object()] * self._looks.pop(0)


def test_a_copy_whose_node_fails_for_a_moment_is_looked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STORE_REPLICA_LOOK_MS", 1)
    url = parse_store_url("couchbase://a/world")
    assert isinstance(url, CouchbaseUrl)
    run(couchbase_link._check_durability(Copies(1, 1, 2), url))
    with pytest.raises(StoreOpenError, match="keeps one copy only"):
        run(couchbase_link._check_durability(Copies(*[1] * limits.STORE_REPLICA_LOOKS), url))


async def _opens(url: CouchbaseUrl, credentials: Credentials) -> None:
    await (await open_couchbase(url, credentials)).close()


def test_a_store_that_does_not_answer_in_time_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STORE_OPEN_MS", 1_500)

    async def never(*_: object) -> None:
        await asyncio.sleep(60)

    monkeypatch.setattr(couchbase_link, "_check_durability", never)
    mock = shared_mock()
    assert "did not answer within 2 s" in refused(url_of(mock), mock.credentials)
