"""The command line's options, declared once and shared by the verbs. A flag not given is None: then the PROJECTK_
variable counts, then the default (``runtime.settings``)."""

from pathlib import Path
from typing import Annotated

import typer

PLAY = "The game"
PROCESSES = "Processes"
NETWORK = "Network"
FILES = "Files and logs"


def _env(text: str, name: str, default: str) -> str:
    return f"{text} \\[default: {default}; env: PROJECTK_{name}]"


Host = Annotated[
    str | None,
    typer.Option(help=_env("Address that gateways listen on.", "HOST", "127.0.0.1"), rich_help_panel=NETWORK),
]
Port = Annotated[
    int | None,
    typer.Option(
        help=_env("The first gateway's port, the others follow; 0: free ones.", "PORT", "8080"), rich_help_panel=NETWORK
    ),
]
GatewayPort = Annotated[
    int | None, typer.Option(help=_env("Port to listen on; 0: a free one.", "PORT", "8080"), rich_help_panel=NETWORK)
]
PublicOrigins = Annotated[
    str | None,
    typer.Option(
        help=_env("Origins of web pages accepted besides the gateways' own, with commas.", "PUBLIC_ORIGINS", "none"),
        rich_help_panel=NETWORK,
    ),
]
TrustedProxies = Annotated[
    str | None,
    typer.Option(
        help=_env("Networks of balancers whose X-Forwarded-For is believed, with commas.", "TRUSTED_PROXIES", "none"),
        rich_help_panel=NETWORK,
    ),
]
BindHost = Annotated[
    str | None,
    typer.Option(
        help=_env(
            "Address that the mesh listens on; a network, like 10.77.0.0/22: this machine's address in it.",
            "BIND_HOST",
            "127.0.0.1",
        ),
        rich_help_panel=NETWORK,
    ),
]
CommandPort = Annotated[
    int | None,
    typer.Option(
        help=_env("Port of the mesh's command plane; 0: a free one.", "COMMAND_PORT", "0"), rich_help_panel=NETWORK
    ),
]
StatePort = Annotated[
    int | None,
    typer.Option(
        help=_env("Port of the mesh's state plane; 0: a free one.", "STATE_PORT", "0"), rich_help_panel=NETWORK
    ),
]
StorePort = Annotated[
    int | None,
    typer.Option(
        help=_env("Port of the streams of the store's clients; 0: a free one.", "STORE_PORT", "0"),
        rich_help_panel=NETWORK,
    ),
]
AdvertiseCommand = Annotated[
    str | None,
    typer.Option(
        help=_env("Command endpoint told to others, where it differs.", "ADVERTISE_COMMAND", "where it listens"),
        rich_help_panel=NETWORK,
    ),
]
AdvertiseState = Annotated[
    str | None,
    typer.Option(
        help=_env("State endpoint told to others, where it differs.", "ADVERTISE_STATE", "where it listens"),
        rich_help_panel=NETWORK,
    ),
]
AdvertiseStore = Annotated[
    str | None,
    typer.Option(
        help=_env(
            "host:port of the store's streams told to others, where it differs.", "ADVERTISE_STORE", "where it listens"
        ),
        rich_help_panel=NETWORK,
    ),
]
AdvertiseHttp = Annotated[
    str | None,
    typer.Option(
        help=_env("Base URL told to clients, where it differs.", "ADVERTISE_HTTP", "where it listens"),
        rich_help_panel=NETWORK,
    ),
]
OPERATORS = "Operators"
OpsUrl = Annotated[
    str | None,
    typer.Option(
        "--ops",
        "--ops-url",
        help=_env("Gateways' listeners for operators, with commas.", "OPS_URL", "those in the data folder's ops.json"),
        rich_help_panel=OPERATORS,
    ),
]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        "--token-file",
        "--ops-token-file",
        help=_env("File that holds the operators' token.", "OPS_TOKEN_FILE", "keys/ops.token in the data folder"),
        rich_help_panel=OPERATORS,
    ),
]
OpsHost = Annotated[
    str | None,
    typer.Option(
        help=_env("Address of the operators' listener, or its network.", "OPS_HOST", "127.0.0.1"),
        rich_help_panel=OPERATORS,
    ),
]
OpsPort = Annotated[
    int | None,
    typer.Option(
        help=_env("Port of the operators' listener; 0: a free one.", "OPS_PORT", "0"), rich_help_panel=OPERATORS
    ),
]
OpsTokenFile = Annotated[
    Path | None,
    typer.Option(
        help=_env("File that holds the operators' token.", "OPS_TOKEN_FILE", "keys/ops.token in the data folder"),
        rich_help_panel=OPERATORS,
    ),
]
Join = Annotated[
    str | None,
    typer.Option(
        help=_env(
            "Command endpoints of brokers or of any members, with commas: tcp://127.0.0.1:7001,tcp://…", "JOIN", "none"
        ),
        rich_help_panel=NETWORK,
    ),
]
NodeId = Annotated[
    str | None,
    typer.Option("--id", help=_env("This node's id, e.g. gs4; auto: by its address.", "NODE_ID", "the role's first")),
]
MetricsHost = Annotated[
    str | None,
    typer.Option(
        help=_env("Address of /metrics, or its network.", "METRICS_HOST", "127.0.0.1"), rich_help_panel=OPERATORS
    ),
]
MetricsPort = Annotated[
    int | None,
    typer.Option(help=_env("Port of /metrics; 0: a free one.", "METRICS_PORT", "0"), rich_help_panel=OPERATORS),
]
Data = Annotated[
    Path | None,
    typer.Option(help=_env("Folder of the world's data and logs.", "DATA", "var"), rich_help_panel=FILES),
]
Store = Annotated[
    str | None,
    typer.Option(
        help=_env(
            "Where the world is kept: sqlite:///file or couchbase://host/bucket.", "STORE", "a file in the data folder"
        ),
        rich_help_panel=FILES,
    ),
]
COUCHBASE = "Couchbase"
CouchbaseMemory = Annotated[
    int | None,
    typer.Option(
        help=_env("MiB of each node for the bucket; of a new cluster.", "COUCHBASE_MEMORY_MB", "1024"),
        rich_help_panel=COUCHBASE,
    ),
]
CouchbaseIndexMemory = Annotated[
    int | None,
    typer.Option(
        help=_env("MiB of each node for indexes; of a new cluster.", "COUCHBASE_INDEX_MEMORY_MB", "256"),
        rich_help_panel=COUCHBASE,
    ),
]
CouchbaseReplicas = Annotated[
    int | None,
    typer.Option(
        help=_env("Copies of each document besides the first.", "COUCHBASE_REPLICAS", "2"), rich_help_panel=COUCHBASE
    ),
]
CouchbaseFailover = Annotated[
    int | None,
    typer.Option(
        help=_env(
            "Seconds until a node that is down is failed over; the Community Edition takes 30 or more.",
            "COUCHBASE_FAILOVER_S",
            "30",
        ),
        rich_help_panel=COUCHBASE,
    ),
]
LogLevel = Annotated[
    str | None,
    typer.Option(help=_env("debug, info, warning or error.", "LOG_LEVEL", "info"), rich_help_panel=FILES),
]
LogFile = Annotated[
    Path | None,
    typer.Option(help=_env("JSON log, rotating.", "LOG_FILE", "a readable one on stderr"), rich_help_panel=FILES),
]
WorldSeed = Annotated[
    int | None,
    typer.Option(help=_env("Seed of the ground and of what grows on it.", "WORLD_SEED", "1"), rich_help_panel=PLAY),
]
Placement = Annotated[
    str | None,
    typer.Option(
        help=_env("gather: where others see the same place; spread: round robin.", "PLACEMENT", "gather"),
        rich_help_panel=PLAY,
    ),
]
Balance = Annotated[
    str | None,
    typer.Option(
        help=_env("on: game servers share their load; off: only drains move units.", "BALANCE", "on"),
        rich_help_panel=PLAY,
    ),
]
AvatarsPerServer = Annotated[
    int | None, typer.Option(help=_env("Cap of a game server.", "AVATARS_PER_SERVER", "2000"), rich_help_panel=PLAY)
]
