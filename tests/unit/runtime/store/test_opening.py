"""Which store an address names, where credentials come from, and that neither ever shows a password."""

import traceback
from pathlib import Path

import pytest

from runtime.settings import Settings, SettingsError, read_settings
from runtime.store.api import Durability, StoreOpenError
from runtime.store.opening import (
    CREDENTIALS,
    CouchbaseUrl,
    Credentials,
    SqliteUrl,
    open_store,
    parse_store_url,
    read_credentials,
)
from tests.support.aio import run
from world.limits import STORE_CREDENTIAL_BYTES


def test_a_file_is_named_by_its_absolute_path() -> None:
    url = parse_store_url("sqlite:///srv/my%20world.sqlite")
    assert url == SqliteUrl(Path("/srv/my world.sqlite"))
    assert str(parse_store_url("sqlite:///srv/world.sqlite")) == "sqlite:///srv/world.sqlite"


def test_couchbase_is_named_by_hosts_and_bucket() -> None:
    url = parse_store_url("couchbase://a,b:11210,[::1]:9/world")
    assert url == CouchbaseUrl(("a", "b:11210", "[::1]:9"), "world")
    assert isinstance(url, CouchbaseUrl)
    assert (url.nodes, str(url)) == ("couchbase://a,b:11210,[::1]:9", "couchbase://a,b:11210,[::1]:9/world")
    assert parse_store_url("couchbases://a/w?durability=majority&network=external&certificate=/ca.pem") == CouchbaseUrl(
        ("a",), "w", True, Durability.MAJORITY, "external", Path("/ca.pem")
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "does not begin with"),
        ("world.sqlite", "does not begin with"),
        ("mysql://host/db", "does not begin with"),
        ("sqlite://world.sqlite", "names no file"),
        ("sqlite:///", "names no file"),
        ("sqlite:///folder/", "names no file"),
        ("sqlite:///a?mode=ro", "takes none"),
        ("couchbase://", "names no host"),
        ("couchbase://a,,b/w", "names no host in ''"),
        ("couchbase://a b/w", "names no host in 'a b'"),
        ("couchbase://a:123456/w", "names no host"),
        ("couchbase://a:65536/w", "names no host"),
        ("couchbase://a", "names no bucket"),
        ("couchbase://a/", "names no bucket"),
        ("couchbase://a/b/c", "names no bucket"),
        ("couchbase://a/w?durability=all", "there is none, majority, majorityAndPersistActive, persistToMajority"),
        ("couchbase://a/w?durabilty=none", "did you mean durability?"),
        ("couchbase://a/w?network=wide", "there is default, external, auto"),
        ("couchbase://a/w?certificate=/ca.pem", "only couchbases:// uses"),
        ("couchbase://a/w#x", "means nothing here"),
        ("couchbase://[a/w", "is no address like"),
    ],
)
def test_a_wrong_address_is_one_sentence(text: str, said: str) -> None:
    with pytest.raises(StoreOpenError) as refused:
        parse_store_url(text)
    sentence = str(refused.value)
    assert said in sentence
    assert sentence.startswith(f"The store's address {text!r} ")
    assert sentence.endswith(".")


@pytest.mark.parametrize(
    "text", ["couchbase://me:hunter2@host/w", "couchbase://hunter2@host/w", "sqlite://me:hunter2@/a", "x:hunter2@y"]
)
def test_a_password_in_an_address_is_refused_unshown(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROJECTK_STORE", text)
    with pytest.raises(SettingsError) as refused:
        read_settings()
    assert "hunter2" not in "".join(traceback.format_exception(refused.value))
    assert str(refused.value).startswith("PROJECTK_STORE: The store's address ")


def test_without_an_address_the_world_is_a_file_in_the_data_folder() -> None:
    assert Settings(data=Path("/d")).store_url == SqliteUrl(Path("/d/store/world.sqlite"))
    assert Settings(data=Path("/d"), store="couchbase://a/w").store_url == CouchbaseUrl(("a",), "w")


def test_credentials_come_from_the_environment_or_from_files(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("hunter2\n")
    found = read_credentials({"PROJECTK_STORE_USER": "me", "PROJECTK_STORE_PASSWORD_FILE": str(tmp_path / "password")})
    assert found == Credentials("me", "hunter2")
    assert read_credentials({"PROJECTK_STORE_USER": "me", "PROJECTK_STORE_PASSWORD": " p "}).password == " p "


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({}, "Couchbase needs PROJECTK_STORE_USER, or PROJECTK_STORE_USER_FILE"),
        ({"PROJECTK_STORE_USER": "me"}, "Couchbase needs PROJECTK_STORE_PASSWORD, or"),
        ({"PROJECTK_STORE_USER": "me", "PROJECTK_STORE_PASSWORD": ""}, "Couchbase needs PROJECTK_STORE_PASSWORD, or"),
        (
            {"PROJECTK_STORE_USER": "me", "PROJECTK_STORE_PASSWORD": "x", "PROJECTK_STORE_PASSWORD_FILE": "f"},
            "PROJECTK_STORE_PASSWORD and PROJECTK_STORE_PASSWORD_FILE are both set",
        ),
        ({"PROJECTK_STORE_USER_FILE": "/nowhere/user"}, "/nowhere/user cannot be read (No such file or directory)."),
        ({"PROJECTK_STORE_USER_FILE": "/dev/zero"}, "/dev/zero is too large"),
    ],
)
def test_missing_credentials_are_one_sentence(environment: dict[str, str], said: str) -> None:
    with pytest.raises(StoreOpenError) as refused:
        read_credentials(environment)
    assert said in str(refused.value)


def test_a_file_without_text_is_no_credential(tmp_path: Path) -> None:
    (tmp_path / "user").write_bytes(b"\xff" * STORE_CREDENTIAL_BYTES)
    with pytest.raises(StoreOpenError, match=r"holds no text\.$"):
        read_credentials({"PROJECTK_STORE_USER_FILE": str(tmp_path / "user")})


def test_credentials_show_in_no_text() -> None:
    secret = Credentials("somebody", "hunter2")
    for text in (repr(secret), str(secret), f"{secret}", f"{[secret]}"):
        assert "hunter2" not in text
        assert "somebody" not in text


def test_credentials_are_no_unknown_settings_but_a_slip_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in CREDENTIALS:
        monkeypatch.setenv(name, "hunter2")
    assert "hunter2" not in repr(read_settings())
    monkeypatch.setenv("PROJECTK_STORE_PASSWRD", "hunter2")
    with pytest.raises(SettingsError) as refused:
        read_settings()
    assert (
        str(refused.value) == "PROJECTK_STORE_PASSWRD: there is no such setting; did you mean PROJECTK_STORE_PASSWORD?"
    )


def test_a_file_is_opened_as_a_store(tmp_path: Path) -> None:
    async def body() -> None:
        url = f"sqlite://{tmp_path}/world.sqlite"
        store = await open_store(url)
        await store.insert("a:1", b"{}")
        with pytest.raises(StoreOpenError, match="already in use"):
            await open_store(url)
        await store.close()
        store = await open_store(parse_store_url(url))
        assert (await store.get("a:1")).value == b"{}"
        await store.close()

    run(body())
