"""All settings of one process, read once into a frozen object: flags win over ``PROJECTK_…`` environment variables.

``Settings()`` reads the environment; ``read_settings(**flags)`` adds flags that were given (not None) and turns a
wrong value into a ``SettingsError`` of one sentence that names the flag.
"""

import os
from collections.abc import Iterable
from difflib import get_close_matches
from ipaddress import AddressValueError, IPv4Interface, NetmaskValueError, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from runtime.store.api import StoreOpenError
from runtime.store.opening import ADMIN_CREDENTIALS, CREDENTIALS, SqliteUrl, StoreUrl, parse_store_url
from world.limits import AVATARS_PER_SERVER

Port = Annotated[int, Field(ge=0, le=65_535)]
Processes = Annotated[int, Field(ge=1, le=64)]
Words = Annotated[tuple[str, ...], NoDecode]  # in the environment: separated by commas
PREFIX = "PROJECTK_"
NO_SETTINGS = ("PROJECTK_SUPERVISOR_FD", "PROJECTK_TEST_")  # variables of ours that begin so and are none
AUTO = "auto"  # a node id: by the address, as runtime.addresses says
LogLevel = Literal["debug", "info", "warning", "error"]


class SettingsError(Exception):
    """A flag or variable has a wrong value; the text is one sentence for the person who typed it."""


class Settings(BaseSettings):
    """Every process gets the same class; each role reads what concerns it."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore", hide_input_in_errors=True)

    # -- this process
    node_id: str = Field(
        default="", pattern=r"^(auto|[a-z]{2}[0-9]{1,4})?$", description="this node's id: gs1, gw2, lg1, br1, st1; auto"
    )
    data: Path = Field(default=Path("var"), description="folder of the world's data and logs")
    world_seed: int = Field(default=1, ge=0, lt=1 << 32, description="seed of the world's ground and natural contents")
    store: str = Field(
        default="", description="where the world is kept: sqlite:///file, couchbase://host/bucket; else a file in data"
    )
    log_level: LogLevel = "info"
    log_file: Path | None = Field(default=None, description="JSON log, rotating; without it a human one on stderr")

    # -- HTTP: the first gateway's, others follow
    host: str = Field(default="127.0.0.1", description="address that gateways listen on")
    port: Port = Field(default=8080, description="the first gateway's port, the others follow; 0: free ones")
    public_origins: Words = Field(
        default=(), description="Origins accepted besides the gateways' own, e.g. https://play.example"
    )
    trusted_proxies: Words = Field(
        default=(), description="networks of balancers whose X-Forwarded-For is believed, e.g. 10.78.0.2/32"
    )

    # -- the mesh: where this process listens, and what it tells others to connect to
    join: Words = Field(
        default=(), description="command endpoints of brokers or any members, e.g. tcp://127.0.0.1:7001"
    )
    bind_host: str = Field(default="127.0.0.1", description="address that the mesh listens on, or its network")
    command_port: Port = Field(default=0, description="the mesh's command plane; 0: a free one")
    state_port: Port = Field(default=0, description="the mesh's state plane (game servers); 0: a free one")
    store_port: Port = Field(default=0, description="streams of the store's clients (the store); 0: a free one")
    advertise_command: str = Field(default="", description="command endpoint told to others, e.g. a proxy's")
    advertise_state: str = Field(default="", description="state endpoint told to others")
    advertise_store: str = Field(default="", description="host:port of the store's streams told to others")
    advertise_http: str = Field(default="", description="public base URL of a gateway, e.g. https://gw1.example")

    # -- operators: each gateway has a listener for them
    ops_host: str = Field(default="127.0.0.1", description="address of the operators' listener, or its network")
    ops_port: Port = Field(default=0, description="its port; 0: a free one")
    ops_token_file: Path | None = Field(default=None, description="the operators' token; else <data>/keys/ops.token")

    ops_url: Words = Field(default=(), description="listeners to ask: for projectk status and its kin")
    metrics_host: str = Field(default="127.0.0.1", description="address of /metrics, or its network; gateways: host")
    metrics_port: Port = Field(default=0, description="port of /metrics, for all roles but gateways; 0: a free one")

    # -- the game
    placement: Literal["gather", "spread"] = Field(default="gather", description="spread: round robin, for tests")
    balance: Literal["on", "off"] = Field(default="on", description="off: only drains and operators move anything")
    avatars_per_server: int = Field(default=AVATARS_PER_SERVER, ge=1, le=100_000)

    # -- setting up a Couchbase cluster
    couchbase_memory_mb: int = Field(default=1_024, ge=256, le=1 << 20, description="of each node, for the bucket")
    couchbase_index_memory_mb: int = Field(default=256, ge=256, le=1 << 20, description="of each node, for indexes")
    couchbase_replicas: int = Field(default=2, ge=0, le=3, description="copies of each document besides the first")
    couchbase_failover_s: int = Field(default=30, ge=1, le=3_600, description="down for so long: failed over")

    # -- the supervisor
    gameservers: Processes = 3
    gateways: Processes = 2
    logins: Processes = 2
    brokers: Processes = 2
    restart: Literal["always", "never"] = "always"
    ready_file: Path | None = Field(default=None, description="gets one JSON document when everything is ready")

    @property
    def store_url(self) -> StoreUrl:
        return parse_store_url(self.store) if self.store else SqliteUrl(self.data / "store" / "world.sqlite")

    @field_validator("store")
    @classmethod
    def _store(cls, value: str) -> str:
        try:
            if value:
                parse_store_url(value)
        except StoreOpenError as error:
            raise ValueError(str(error)) from error
        return value

    @field_validator("join", "public_origins", "ops_url", "trusted_proxies", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(word.strip() for word in value.split(",") if word.strip())
        return value

    @field_validator("bind_host", "ops_host", "metrics_host")
    @classmethod
    def _own_network(cls, value: str) -> str:
        try:
            return str(IPv4Interface(value).with_prefixlen) if "/" in value else value
        except (AddressValueError, NetmaskValueError):
            raise ValueError(f"{value!r} is no IPv4 network like 10.77.0.0/22") from None

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for network in value:
            try:
                ip_network(network)
            except ValueError:
                raise ValueError(f"{network!r} is no network like 10.78.0.2/32") from None
        return value

    @field_validator("ops_url")
    @classmethod
    def _urls(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for url in value:
            if not url.startswith(("http://", "https://")):
                raise ValueError(f"{url!r} is no URL like http://127.0.0.1:9080")
        return tuple(url.rstrip("/") for url in value)

    @field_validator("join")
    @classmethod
    def _endpoints(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for endpoint in value:
            if not endpoint.startswith("tcp://") or ":" not in endpoint[6:]:
                raise ValueError(f"{endpoint!r} is no endpoint like tcp://127.0.0.1:7001")
        return value


def read_settings(**flags: Any) -> Settings:
    """Settings from the environment, overruled by flags that are not None. Raises SettingsError, also for variables
    that look like settings and are none."""
    _refuse_unknown(os.environ)
    given = {name: value for name, value in flags.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        raise SettingsError(_sentence(error, set(given))) from error


def _refuse_unknown(variables: Iterable[str]) -> None:
    known = [*(PREFIX + name.upper() for name in Settings.model_fields), *CREDENTIALS, *ADMIN_CREDENTIALS]
    for name in sorted(variables):
        if name.startswith(PREFIX) and name not in known and not name.startswith(NO_SETTINGS):
            close = get_close_matches(name, known, 1)
            hint = f"did you mean {close[0]}?" if close else "projectk up --help lists them."
            raise SettingsError(f"{name}: there is no such setting; {hint}")


def _sentence(error: ValidationError, flags: set[str]) -> str:
    first = error.errors()[0]
    name = str(first["loc"][0]) if first["loc"] else "settings"
    said = f"--{name.replace('_', '-')}" if name in flags else f"PROJECTK_{name.upper()}"
    reason = first["msg"].removeprefix("Value error, ")
    if name == "store":  # its sentence shows what was given, but for a password
        return f"{said}: {reason}"
    return f"{said}: {reason[0].lower() + reason[1:]} (got {first['input']!r})."
