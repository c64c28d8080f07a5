"""Which store a world is kept in, and opening it: ``PROJECTK_STORE``.

::

    sqlite:///srv/world/world.sqlite                        one file, owned by the store process (the default)
    couchbase://host[:port][,host[:port]…]/bucket[?…]       Couchbase; every process that needs it talks to it directly
    couchbases://…                                          the same over TLS

    ?durability=persistToMajority    the highest level that writes ask for: none, majority, majorityAndPersistActive
    ?network=default                 which of a node's addresses are used: default, external, auto
    ?certificate=/path/ca.pem        of the authority that signed the nodes' certificates (couchbases)

Credentials never stand in an address, a flag, a setting or a log: they come from the environment
(``PROJECTK_STORE_USER``, ``PROJECTK_STORE_PASSWORD``) or from files that it names (``…_FILE``).
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from runtime.store.api import Durability, Store, StoreOpenError
from world.limits import STORE_CREDENTIAL_BYTES

if TYPE_CHECKING:
    from runtime.store.couchbase import CouchbaseStore

USER, PASSWORD = "PROJECTK_STORE_USER", "PROJECTK_STORE_PASSWORD"
CREDENTIALS = (USER, f"{USER}_FILE", PASSWORD, f"{PASSWORD}_FILE")  # environment variables, no settings
ADMIN_USER, ADMIN_PASSWORD = "PROJECTK_COUCHBASE_ADMIN_USER", "PROJECTK_COUCHBASE_ADMIN_PASSWORD"
ADMIN_CREDENTIALS = (ADMIN_USER, f"{ADMIN_USER}_FILE", ADMIN_PASSWORD, f"{ADMIN_PASSWORD}_FILE")  # for setting it up

LEVELS = {
    "none": Durability.NONE,
    "majority": Durability.MAJORITY,
    "majorityAndPersistActive": Durability.MAJORITY_AND_PERSIST_ACTIVE,
    "persistToMajority": Durability.PERSIST_TO_MAJORITY,
}
NETWORKS = ("default", "external", "auto")
_PARAMETERS = ("durability", "network", "certificate")
_HOST = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")
_BUCKET = re.compile(r"[A-Za-z0-9._%-]{1,100}")


@dataclass(frozen=True, slots=True)
class SqliteUrl:
    path: Path

    def __str__(self) -> str:
        return f"sqlite://{self.path}"


@dataclass(frozen=True, slots=True)
class CouchbaseUrl:
    """``hosts``: each with its port where one was given; at least one."""

    hosts: tuple[str, ...]
    bucket: str
    tls: bool = False
    durability: Durability = Durability.PERSIST_TO_MAJORITY
    network: str = "default"
    certificate: Path | None = None

    @property
    def nodes(self) -> str:
        """``couchbase://host,host``: what a client connects to."""
        return f"couchbase{'s' if self.tls else ''}://{','.join(self.hosts)}"

    def __str__(self) -> str:
        return f"{self.nodes}/{self.bucket}"


StoreUrl = SqliteUrl | CouchbaseUrl


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """Hides in every text: a trace that shows locals, a log line, an f-string."""

    user: str
    password: str

    def __repr__(self) -> str:
        return "Credentials(…)"


def parse_store_url(text: str) -> StoreUrl:
    """Raises StoreOpenError; its sentence names the mistake and shows no password that was put in by mistake."""
    try:
        parts = urlsplit(text)
    except ValueError:
        _refuse(text, "is no address like sqlite:///srv/world.sqlite or couchbase://host/bucket")
    if "@" in parts.netloc:
        _refuse(text, f"holds credentials: leave them out, and set {USER} and {PASSWORD} (or {PASSWORD}_FILE) instead")
    if parts.fragment:
        _refuse(text, "has a part behind #, which means nothing here")
    if parts.scheme == "sqlite":
        return _sqlite(text, parts)
    if parts.scheme in ("couchbase", "couchbases"):
        return _couchbase(text, parts)
    return _refuse(text, "does not begin with sqlite:///, couchbase:// or couchbases://")


def read_credentials(environment: Mapping[str, str] | None = None) -> Credentials:
    """From ``os.environ`` where none is given. Raises StoreOpenError."""
    source = os.environ if environment is None else environment
    return Credentials(_credential(source, USER), _credential(source, PASSWORD))


def read_admin_credentials(environment: Mapping[str, str] | None = None) -> Credentials:
    """Couchbase's administrator, whom only the set-up needs. Raises StoreOpenError."""
    source = os.environ if environment is None else environment
    return Credentials(_credential(source, ADMIN_USER), _credential(source, ADMIN_PASSWORD))


async def open_store(url: StoreUrl | str, credentials: Credentials | None = None) -> Store:
    """The store itself, opened and checked, within STORE_OPEN_MS for Couchbase; the caller closes it. A SQLite file is
    opened as its only owner, and made where there is none. ``credentials``: else those of the environment, where they
    are needed. Raises StoreOpenError, one sentence that says what to do."""
    if isinstance(url, str):
        url = parse_store_url(url)
    if isinstance(url, SqliteUrl):
        from runtime.store.sqlite import SqliteStore  # imported only where it is used: each pulls in its database

        return SqliteStore(url.path)
    return await open_couchbase(url, credentials)


async def open_couchbase(url: CouchbaseUrl, credentials: Credentials | None = None) -> "CouchbaseStore":
    """Raises StoreOpenError."""
    from runtime.store.couchbase import CouchbaseStore

    return await CouchbaseStore.open(url, credentials or read_credentials())


# -- addresses ---------------------------------------------------------------------------------------------------------
def _sqlite(text: str, parts: SplitResult) -> SqliteUrl:
    path = unquote(parts.path)
    if parts.netloc or not path.strip("/") or path.endswith("/"):
        _refuse(text, "names no file: after sqlite:// comes its absolute path, as in sqlite:///srv/world/world.sqlite")
    if parts.query:
        _refuse(text, "has parameters, and a SQLite store takes none")
    return SqliteUrl(Path(path))


def _couchbase(text: str, parts: SplitResult) -> CouchbaseUrl:
    hosts = tuple(parts.netloc.split(","))
    for host in hosts:
        matched = _HOST.fullmatch(host)
        if matched is None or int((matched[2] or ":0")[1:]) > 0xFFFF:
            _refuse(text, f"names no host in {host!r}: it is couchbase://host,host/bucket")
    bucket = unquote(parts.path.removeprefix("/"))
    if not _BUCKET.fullmatch(bucket):
        _refuse(text, "names no bucket behind the hosts: it is couchbase://host,host/bucket")
    parameters = _parameters(text, parts.query)
    level = parameters.get("durability", "persistToMajority")
    if level not in LEVELS:
        _refuse(text, f"asks for durability={level}; there is {', '.join(LEVELS)}")
    network = parameters.get("network", "default")
    if network not in NETWORKS:
        _refuse(text, f"asks for network={network}; there is {', '.join(NETWORKS)}")
    tls, certificate = parts.scheme == "couchbases", parameters.get("certificate")
    if certificate is not None and not tls:
        _refuse(text, "names a certificate, which only couchbases:// uses")
    path = Path(certificate) if certificate is not None else None
    return CouchbaseUrl(hosts, bucket, tls, LEVELS[level], network, path)


def _parameters(text: str, query: str) -> dict[str, str]:
    pairs = parse_qsl(query, keep_blank_values=True)
    for name, _ in pairs:
        if name not in _PARAMETERS:
            close = get_close_matches(name, _PARAMETERS, 1)
            _refuse(text, f"has a parameter {name!r}; {f'did you mean {close[0]}?' if close else 'there is no such'}")
    return dict(pairs)


def _refuse(text: str, problem: str) -> NoReturn:
    shown = re.sub(r"^([^/]*//)?[^/]*@", r"\1…@", text)
    raise StoreOpenError(f"The store's address {shown!r} {problem}.")


# -- credentials -------------------------------------------------------------------------------------------------------
def _credential(source: Mapping[str, str], name: str) -> str:
    given, file = source.get(name), source.get(f"{name}_FILE")
    if given and file:
        raise StoreOpenError(f"{name} and {name}_FILE are both set: the store needs exactly one of them.")
    value = _first_line(name, Path(file)) if file else given
    if not value:
        raise StoreOpenError(f"Couchbase needs {name}, or {name}_FILE with the name of a file that holds it.")
    return value


def _first_line(name: str, path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(STORE_CREDENTIAL_BYTES + 1)
        if len(content) > STORE_CREDENTIAL_BYTES:
            raise StoreOpenError(f"{name}_FILE: {path} is too large to hold only that.")
        return content.decode().rstrip("\r\n")
    except OSError as error:
        raise StoreOpenError(f"{name}_FILE: {path} cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError:
        raise StoreOpenError(f"{name}_FILE: {path} holds no text.") from None
