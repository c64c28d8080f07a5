"""All settings of one process, read once into a frozen object: flags win over ``PROJECTK_…`` environment variables.

``read_settings(**flags)`` reads the environment, adds flags that were given (not None) and turns a wrong value into a
``SettingsError`` of one sentence that names the flag. ``Settings(…)`` reads nothing and checks nothing: for tests.
"""

import os
import re
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from ipaddress import AddressValueError, IPv4Interface, NetmaskValueError, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta

from runtime.store.api import StoreOpenError
from runtime.store.opening import ADMIN_CREDENTIALS, CREDENTIALS, SqliteUrl, StoreUrl, parse_store_url
from world.limits import AVATARS_PER_SERVER

Port = Annotated[int, Meta(ge=0, le=65_535)]
Processes = Annotated[int, Meta(ge=1, le=64)]
Words = tuple[str, ...]  # in the environment and in flags: separated by commas
PREFIX = "PROJECTK_"
NO_SETTINGS = ("PROJECTK_SUPERVISOR_FD", "PROJECTK_TEST_")  # variables of ours that begin so and are none
AUTO = "auto"  # a node id: by the address, as runtime.addresses says
LogLevel = Literal["debug", "info", "warning", "error"]
NodeName = Annotated[str, Meta(pattern=r"^(auto|[a-z]{2}[0-9]{1,4})?$")]


class SettingsError(Exception):
    """A flag or variable has a wrong value; the text is one sentence for the person who typed it."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Every process gets the same class; each role reads what concerns it."""

    # -- this process
    node_id: NodeName = ""  # this node's id: gs1, gw2, lg1, br1, st1; auto
    data: Path = Path("var")  # folder of the world's data and logs
    world_seed: Annotated[int, Meta(ge=0, lt=1 << 32)] = 1  # seed of the world's ground and natural contents
    store: str = ""  # where the world is kept: sqlite:///file, couchbase://host/bucket; else a file in data
    log_level: LogLevel = "info"
    log_file: Path | None = None  # JSON log, rotating; without it a human one on stderr

    # -- HTTP: the first gateway's, others follow
    host: str = "127.0.0.1"  # address that gateways listen on
    port: Port = 8080  # the first gateway's port, the others follow; 0: free ones
    public_origins: Words = ()  # Origins accepted besides the gateways' own, e.g. https://play.example
    trusted_proxies: Words = ()  # networks of balancers whose X-Forwarded-For is believed, e.g. 10.78.0.2/32

    # -- the mesh: where this process listens, and what it tells others to connect to
    join: Words = ()  # command endpoints of brokers or any members, e.g. tcp://127.0.0.1:7001
    bind_host: str = "127.0.0.1"  # address that the mesh listens on, or its network
    command_port: Port = 0  # the mesh's command plane; 0: a free one
    state_port: Port = 0  # the mesh's state plane (game servers); 0: a free one
    advertise_command: str = ""  # command endpoint told to others, e.g. a proxy's
    advertise_state: str = ""  # state endpoint told to others
    advertise_http: str = ""  # public base URL of a gateway, e.g. https://gw1.example

    # -- operators: each gateway has a listener for them
    ops_host: str = "127.0.0.1"  # address of the operators' listener, or its network
    ops_port: Port = 0  # its port; 0: a free one
    ops_token_file: Path | None = None  # the operators' token; else <data>/keys/ops.token

    ops_url: Words = ()  # listeners to ask: for projectk status and its kin
    metrics_host: str = "127.0.0.1"  # address of /metrics, or its network; gateways: host
    metrics_port: Port = 0  # port of /metrics, for all roles but gateways; 0: a free one

    # -- the game
    placement: Literal["gather", "spread"] = "gather"  # spread: round robin, for tests
    balance: Literal["on", "off"] = "on"  # off: only drains and operators move units and clients
    avatars_per_server: Annotated[int, Meta(ge=1, le=100_000)] = AVATARS_PER_SERVER

    # -- setting up a Couchbase cluster
    couchbase_memory_mb: Annotated[int, Meta(ge=256, le=1 << 20)] = 1_024  # of each node, for the bucket
    couchbase_index_memory_mb: Annotated[int, Meta(ge=256, le=1 << 20)] = 256  # of each node, for indexes
    couchbase_replicas: Annotated[int, Meta(ge=0, le=3)] = 2  # copies of each document besides the first
    couchbase_failover_s: Annotated[int, Meta(ge=1, le=3_600)] = 30  # down for so long: failed over

    # -- the supervisor
    gameservers: Processes = 3
    gateways: Processes = 2
    logins: Processes = 2
    brokers: Processes = 2
    restart: Literal["always", "never"] = "always"
    ready_file: Path | None = None  # gets one JSON document when everything is ready

    @property
    def store_url(self) -> StoreUrl:
        return parse_store_url(self.store) if self.store else SqliteUrl(self.data / "store" / "world.sqlite")


def read_settings(**flags: Any) -> Settings:
    """Settings from the environment, overruled by flags that are not None. Raises SettingsError, also for variables
    that look like settings and are none."""
    _refuse_unknown(os.environ)
    given = {name: value for name, value in flags.items() if value is not None}
    return Settings(**{name: _read(name, value, name in given) for name, value in (_in(os.environ) | given).items()})


def _in(variables: Mapping[str, str]) -> dict[str, Any]:
    named = {name: PREFIX + name.upper() for name in Settings.__struct_fields__}
    return {name: variables[variable] for name, variable in named.items() if variable in variables}


def _refuse_unknown(variables: Iterable[str]) -> None:
    known = [*(PREFIX + name.upper() for name in Settings.__struct_fields__), *CREDENTIALS, *ADMIN_CREDENTIALS]
    for name in sorted(variables):
        if name.startswith(PREFIX) and name not in known and not name.startswith(NO_SETTINGS):
            close = get_close_matches(name, known, 1)
            hint = f"did you mean {close[0]}?" if close else "projectk up --help lists them."
            raise SettingsError(f"{name}: there is no such setting; {hint}")


# -- one value, and what is said where it is wrong
def _read(name: str, value: object, flag: bool) -> Any:
    """``value`` as that setting's type. Raises SettingsError."""
    kind = Settings.__annotations__[name]
    try:
        given = _words(value) if kind is Words and isinstance(value, str) else value
        read = msgspec.convert(given, kind, strict=False, dec_hook=_path)
        return CHECKS[name](read) if name in CHECKS else read
    except ValueError as error:  # msgspec's, too
        said = f"--{name.replace('_', '-')}" if flag else f"{PREFIX}{name.upper()}"
        if name == "store":  # its sentence shows what was given, but for a password
            raise SettingsError(f"{said}: {error}") from error
        raise SettingsError(f"{said}: {_reason(kind, str(error))} (got {value!r}).") from error


def _words(value: str) -> Words:
    return tuple(word.strip() for word in value.split(",") if word.strip())


def _path(kind: type, value: object) -> Path:
    """Those settings that msgspec has no type for."""
    if kind is not Path or not isinstance(value, str | Path):
        raise ValueError("Input should be a path")
    return Path(value)


def _reason(kind: Any, said: str) -> str:
    """msgspec's words for a type or a bound, as words for the person who typed it."""
    if choices := [word for word in get_args(kind) if isinstance(word, str)]:
        return f"input should be {', '.join(map(repr, choices[:-1]))} or {choices[-1]!r}"
    if bound := re.match(r"Expected `int` (<=|>=) (\d+)", said):
        return f"input should be {'less' if bound[1] == '<=' else 'greater'} than or equal to {bound[2]}"
    if said.startswith("Expected `int`"):
        return "input should be a whole number"
    return said[:1].lower() + said[1:]


def _store(value: str) -> str:
    try:
        if value:
            parse_store_url(value)
    except StoreOpenError as error:
        raise ValueError(str(error)) from error
    return value


def _own_network(value: str) -> str:
    try:
        return str(IPv4Interface(value).with_prefixlen) if "/" in value else value
    except (AddressValueError, NetmaskValueError):
        raise ValueError(f"{value!r} is no IPv4 network like 10.77.0.0/22") from None


def _networks(value: Words) -> Words:
    for network in value:
        try:
            ip_network(network)
        except ValueError:
            raise ValueError(f"{network!r} is no network like 10.78.0.2/32") from None
    return value


def _urls(value: Words) -> Words:
    for url in value:
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"{url!r} is no URL like http://127.0.0.1:9080")
    return tuple(url.rstrip("/") for url in value)


def _endpoints(value: Words) -> Words:
    for endpoint in value:
        if not endpoint.startswith("tcp://") or ":" not in endpoint[6:]:
            raise ValueError(f"{endpoint!r} is no endpoint like tcp://127.0.0.1:7001")
    return value


CHECKS: dict[str, Callable[[Any], Any]] = {
    "store": _store,
    "bind_host": _own_network,
    "ops_host": _own_network,
    "metrics_host": _own_network,
    "trusted_proxies": _networks,
    "ops_url": _urls,
    "join": _endpoints,
}
