"""What ``projectk up`` starts: pure, from settings and ports to the list of processes with their environment."""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from runtime.settings import Settings
from runtime.store.opening import CREDENTIALS, SqliteUrl
from world.ids import ROLE_PREFIX

START_ORDER = (("broker", "store"), ("login", "gateway", "gameserver"))  # waves: the next when the one before is ready
STOP_ORDER = ("gateway", "gameserver", "login", "store", "broker")
ROLL_ORDER = ("broker", "store", "login", "gateway", "gameserver")  # of a deployment, which says why
OPEN_THE_STORE = ("login", "gateway", "gameserver")  # by themselves where it is Couchbase: they get the credentials


@dataclass(frozen=True, slots=True)
class Planned:
    """One process: ``settings`` are its PROJECTK_ variables, but for the store's credentials."""

    role: str
    id: str
    settings: Mapping[str, str]
    command: tuple[str, ...]

    def environment(self, base: Mapping[str, str]) -> dict[str, str]:
        """``base`` without its PROJECTK_ variables (but the store's credentials for those who open it), plus this
        process's own. Numeric libraries get one thread: the
        processes share few cores, and each thread costs memory."""
        handed = CREDENTIALS if self.role in OPEN_THE_STORE else ()
        kept = {n: value for n, value in base.items() if n in handed or not n.startswith("PROJECTK_")}
        threads = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
        return kept | threads | {f"PROJECTK_{name.upper()}": value for name, value in self.settings.items()}


def plan(
    settings: Settings, gateway_ports: Sequence[int], broker_ports: Sequence[int], ops_ports: Sequence[int]
) -> list[Planned]:
    """All processes of the cluster, in the order they start. A broker keeps its port over restarts, because members
    find a restarted broker by the endpoint they joined with; a gateway keeps both of its own."""
    join = ",".join(join_endpoints(settings, broker_ports))
    counts = {
        "broker": settings.brokers,
        "store": int(isinstance(settings.store_url, SqliteUrl)),  # Couchbase: who needs it talks to it directly
        "login": settings.logins,
        "gateway": settings.gateways,
        "gameserver": settings.gameservers,
    }
    planned = []
    for role in (role for wave in START_ORDER for role in wave):
        for n in range(counts[role]):
            own = _common(settings, f"{ROLE_PREFIX[role]}{n + 1}") | {"join": join}
            if role == "broker":
                own |= {"command_port": str(broker_ports[n])}
            if role == "gateway":
                own |= {"port": str(gateway_ports[n]), "ops_port": str(ops_ports[n]), "ops_host": settings.ops_host}
                own |= {"ops_token_file": str(ops_token_file(settings))}
            planned.append(Planned(role, own["node_id"], own, (sys.executable, "-m", "cluster.role", role)))
    return planned


def join_endpoints(settings: Settings, broker_ports: Sequence[int]) -> list[str]:
    """Where members of this cluster join: every broker."""
    return [f"tcp://{settings.bind_host}:{port}" for port in broker_ports]


def ops_token_file(settings: Settings) -> Path:
    return (settings.ops_token_file or settings.data / "keys" / "ops.token").resolve()


def _common(settings: Settings, node_id: str) -> dict[str, str]:
    data = settings.data.resolve()
    return {
        "node_id": node_id,
        "data": str(data),
        "log_file": str(data / "logs" / f"{node_id}.log"),
        "store": settings.store,
        "log_level": settings.log_level,
        "world_seed": str(settings.world_seed),
        "host": settings.host,
        "bind_host": settings.bind_host,
        "public_origins": ",".join(settings.public_origins),
        "trusted_proxies": ",".join(settings.trusted_proxies),
        "placement": settings.placement,
        "balance": settings.balance,
        "avatars_per_server": str(settings.avatars_per_server),
    }


def http_url(host: str, port: int) -> str:
    """What a browser on this machine opens for a gateway that listens on ``host``."""
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{shown}:{port}"


def child_environment(planned: Planned) -> dict[str, str]:
    return planned.environment(os.environ)
