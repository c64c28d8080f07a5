"""What one seed means: how large the cluster is, what its players do, and, drawn apart from that, what goes wrong."""

import random
from dataclasses import dataclass, field
from typing import NamedTuple

from runtime.mesh.fake import Faults as NetworkFaults
from runtime.store.memory import Faults as StoreFaults

SERVERS = ("gs1", "gs2", "gs3")


class Strike(NamedTuple):
    """One fault of the nemesis: ``kind`` names a method of ``Nemesis``, ``target`` a node, a pair, a player, or
    what an ambush does."""

    at_s: float  # after the players have come
    kind: str
    target: str
    lasts_s: float


@dataclass(frozen=True)
class Plan:
    seed: int
    gateways: int
    logins: int
    players: int
    active_s: float  # players act and faults strike
    placement: str
    calm_bound_s: float = 45.0  # after the faults: all must agree within this time
    network: NetworkFaults = field(default_factory=NetworkFaults)
    store: dict[str, float] = field(default_factory=dict)  # shares of runtime.store.memory.Faults
    store_delay_ms: float = 1.0
    strikes: tuple[Strike, ...] = ()

    def store_faults(self, rng: random.Random) -> StoreFaults:
        faults = StoreFaults(rng, delay_ms=(0.2, self.store_delay_ms))
        for name, share in self.store.items():
            setattr(faults, name, share)
        return faults

    def describe(self) -> str:
        n = self.network
        shares = {
            "delay_ms": n.delay_ms[1],
            "call_loss": n.call_loss,
            "call_duplicate": n.call_duplicate,
            "one_way_loss": n.one_way_loss,
            "reorder": n.reorder,
            "frame_loss": n.frame_loss,
            "subscription_loss": n.subscription_loss,
            **{f"store_{name}": share for name, share in self.store.items()},
            "store_delay_ms": self.store_delay_ms,
        }
        faults = " ".join(f"{name}={value:.3g}" for name, value in shares.items() if value)
        strikes = " ".join(f"{s.at_s:.2f}s:{s.kind}({s.target},{s.lasts_s:.2f}s)" for s in self.strikes)
        return (
            f"seed {self.seed}: {self.players} players, {self.gateways} gateways, {self.logins} logins, "
            f"{self.placement}, {self.active_s:.1f} s; {faults}; {strikes or 'no strikes'}"
        )


def draw(seed: int) -> Plan:
    """The plan of a seed. Workload and faults come from two generators, so that one can change without the other."""
    work, fault = random.Random(f"work {seed}"), random.Random(f"fault {seed}")
    gateways = work.choice((1, 2, 2))
    players = work.randint(2, 4)
    active_s = work.uniform(6.0, 9.0)
    return Plan(
        seed=seed,
        gateways=gateways,
        logins=work.choice((1, 2)),
        players=players,
        active_s=active_s,
        placement=work.choice(("spread", "spread", "gather")),
        network=_network(fault),
        store={name: _share(fault, 0.08) for name in ("temporary", "lost", "applied", "late")},
        store_delay_ms=fault.choice((1.0, 10.0, 60.0, 60.0)),
        strikes=tuple(sorted(_strikes(fault, gateways, players, active_s))),
    )


def _share(rng: random.Random, most: float) -> float:
    """Nothing in two of five seeds, else anything up to ``most``, small values as likely as large ones."""
    return 0.0 if rng.random() < 0.4 else most * rng.random() ** 2


def _network(rng: random.Random) -> NetworkFaults:
    return NetworkFaults(
        delay_ms=(0.2, rng.choice((2.0, 20.0, 80.0))),
        call_loss=_share(rng, 0.15),
        call_duplicate=_share(rng, 0.3),
        late_ms=rng.choice((50.0, 500.0, 2_000.0)),
        one_way_loss=_share(rng, 0.05),
        reorder=_share(rng, 0.3),
        frame_loss=_share(rng, 0.4),
        subscription_loss=_share(rng, 0.4),
    )


def _strikes(rng: random.Random, gateways: int, players: int, active_s: float) -> list[Strike]:
    found = [
        Strike(rng.uniform(0, active_s), "drop", str(rng.randrange(players)), 0.0) for _ in range(rng.choice((0, 1, 3)))
    ]
    heavy = rng.choice(("", "ambush", "ambush", "ambush", "crash", "zombie", "gateway", "partition", "store_away"))
    for kind in (heavy, rng.choice(("", "stall", "partition", "crash", "ambush"))):
        at_s = rng.uniform(0.2, active_s * 0.8)
        if kind in ("crash", "zombie"):  # shorter and longer than the 3 s after which the silent are declared dead
            lasts_s = rng.uniform(0.3, 1.5) if rng.random() < 0.6 else rng.uniform(4.0, 6.0)
            found.append(Strike(at_s, kind, rng.choice(SERVERS), lasts_s))
        elif kind == "ambush":
            found.append(Strike(at_s, kind, rng.choice(("crash", "crash", "zombie")), rng.uniform(0.3, 6.0)))
        elif kind == "gateway":
            found.append(Strike(at_s, "crash", f"gw{rng.randint(1, gateways)}", rng.uniform(0.1, 1.5)))
        elif kind == "partition":
            a, b = rng.sample(SERVERS, 2)
            found.append(Strike(at_s, kind, f"{a}>{b}", rng.uniform(0.5, 4.0)))
        elif kind == "store_away":
            found.append(Strike(at_s, kind, "", rng.uniform(0.3, 4.0)))
        elif kind == "stall":
            found.append(Strike(at_s, kind, str(rng.randrange(players)), rng.uniform(0.5, 3.0)))
    return found
