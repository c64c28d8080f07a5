"""What one seed means: how large the cluster is, what its players do, and, drawn apart from that, what goes wrong."""

import random
from dataclasses import dataclass, field
from typing import NamedTuple

from runtime.mesh.fake import Faults as NetworkFaults
from runtime.store.memory import Faults as StoreFaults

RICH = 0.4  # share of seeds with three game servers and more players


class Strike(NamedTuple):
    """One fault of the nemesis: ``kind`` names a method of ``Nemesis``, ``target`` a node, a pair, a player, or
    what an ambush does."""

    at_s: float  # after the players have come
    kind: str
    target: str
    lasts_s: float
    to: str = ""  # a server, where something is moved


@dataclass(frozen=True)
class Plan:
    seed: int
    gateways: int
    logins: int
    players: int
    active_s: float  # players act and faults strike
    placement: str
    servers: int = 3
    calm_bound_s: float = 45.0  # after the faults: all must agree within this time
    network: NetworkFaults = field(default_factory=NetworkFaults)
    store: dict[str, float] = field(default_factory=dict)  # shares of runtime.store.memory.Faults
    store_delay_ms: float = 1.0
    clock_jump: float = 0.0  # share of restarts that find the wall clock an hour off
    clock_drift: float = 0.0  # by how much loops' clocks differ at most, as a share
    strikes: tuple[Strike, ...] = ()
    trades: bool = True  # players trade with each other

    @property
    def server_names(self) -> list[str]:
        return [f"gs{n}" for n in range(1, self.servers + 1)]

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
            "clock_jump": self.clock_jump,
            "clock_drift": self.clock_drift,
        }
        faults = " ".join(f"{name}={value:.3g}" for name, value in shares.items() if value)
        strikes = " ".join(f"{s.at_s:.2f}s:{s.kind}({s.target},{s.lasts_s:.2f}s)" for s in self.strikes)
        return (
            f"seed {self.seed}: {self.players} players, {self.servers} game servers, {self.gateways} gateways, "
            f"{self.logins} logins, "
            f"{self.placement}, {self.active_s:.1f} s; {faults}; {strikes or 'no strikes'}"
        )


def draw(seed: int) -> Plan:
    """The plan of a seed. Workload and faults come from two generators, so that one can change without the other."""
    work, fault = random.Random(f"work {seed}"), random.Random(f"fault {seed}")
    rich = work.random() < RICH
    servers = 3 if rich else 2
    gateways = work.choice((1, 2, 2) if rich else (1, 1, 2))
    players = work.randint(2, 4) if rich else work.randint(2, 3)
    active_s = work.uniform(5.5, 8.0) if rich else work.uniform(4.5, 7.0)
    trade_ambush = _trade_ambush(seed)
    return Plan(
        seed=seed,
        trades=seed % 2 == 1 or bool(trade_ambush),  # trading costs a quarter more
        servers=servers,
        gateways=gateways,
        logins=work.choice((1, 2)),
        players=players,
        active_s=active_s,
        placement=work.choice(("spread", "spread", "gather")),
        network=_network(fault),
        store={name: _share(fault, 0.08) for name in ("temporary", "lost", "applied", "late")},
        store_delay_ms=fault.choice((1.0, 10.0, 60.0, 60.0)),
        clock_jump=fault.choice((0.0, 0.5)),
        clock_drift=fault.choice((0.0, 1e-4, 1e-3)),
        strikes=tuple(sorted([*Strikes(fault, servers, gateways, players, active_s).draw(), *trade_ambush])),
    )


def _trade_ambush(seed: int) -> list[Strike]:
    """In some seeds one who takes part in a transaction is struck in the middle of it, at the stage ``to``."""
    rng = random.Random(f"trade {seed}")
    if rng.random() > 0.35:
        return []
    stage = rng.choice(("pending", "first lock", "all locked", "committed", "first applied"))
    lasts_s = rng.uniform(0.3, 1.5) if rng.random() < 0.5 else rng.uniform(4.0, 6.0)
    return [Strike(rng.uniform(0.5, 3.0), "trade_ambush", rng.choice(("crash", "crash", "zombie")), lasts_s, stage)]


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


class Strikes:
    """What a seed's nemesis does: lost connections, and one heavy and one light blow."""

    HEAVY = (
        *("", "ambush", "ambush", "ambush", "crash", "zombie", "zombie", "cut_off", "gateway", "gateway_zombie"),
        *("partition", "store_partition", "store_away", "all_servers", "both"),
        *("hand_off_ambush", "hand_off_ambush", "hand_off_ambush", "drain", "drain", "gateway_drain"),
    )
    LIGHT = ("", "stall", "partition", "gateway_partition", "crash", "zombie", "ambush", "hand_off_ambush", "drain")

    def __init__(self, rng: random.Random, servers: int, gateways: int, players: int, active_s: float) -> None:
        self._rng = rng
        self._servers = [f"gs{n}" for n in range(1, servers + 1)]
        self._gateways = [f"gw{n}" for n in range(1, gateways + 1)]
        self._players = players
        self._active_s = active_s

    def draw(self) -> list[Strike]:
        rng, found = self._rng, list[Strike]()
        for _ in range(rng.choice((0, 0, 1, 2, 6))):
            found.append(self._move(rng.uniform(0.2, self._active_s * 0.9), "hand_off"))
        if rng.random() < 0.15:
            found.append(Strike(rng.uniform(0.2, self._active_s * 0.8), "replace", self._player(), 0.0))
        drops = range(rng.choice((0, 1, 3)))
        found += [Strike(rng.uniform(0, self._active_s), "drop", self._player(), 0.0) for _ in drops]
        for kind in (rng.choice(self.HEAVY), rng.choice(self.LIGHT)):
            if kind:
                at_s = rng.uniform(0.2, self._active_s * 0.8)
                found += getattr(self, f"_{kind}")(at_s)
        return found

    def _player(self) -> str:
        return str(self._rng.randrange(self._players))

    def _move(self, at_s: float, kind: str) -> Strike:
        """The avatar of a player, or the land under it."""
        what = self._rng.choice(("avatar", "avatar", "region"))
        return Strike(at_s, kind, f"{what} {self._player()}", self._lasts_s(), self._rng.choice(self._servers))

    def _hand_off_ambush(self, at_s: float) -> list[Strike]:
        return [self._move(at_s, "hand_off_ambush")]

    def _drain(self, at_s: float) -> list[Strike]:
        return [Strike(at_s, "drain", self._rng.choice(self._servers), self._rng.uniform(0.1, 1.0))]

    def _gateway_drain(self, at_s: float) -> list[Strike]:
        return [Strike(at_s, "drain", self._rng.choice(self._gateways), self._rng.uniform(0.1, 1.0))]

    def _lasts_s(self) -> float:
        """Shorter or longer than the 3 s after which the silent are declared dead."""
        rng = self._rng
        return rng.uniform(0.3, 1.5) if rng.random() < 0.6 else rng.uniform(4.0, 6.0)

    def _crash(self, at_s: float) -> list[Strike]:
        return [Strike(at_s, "crash", self._rng.choice(self._servers), self._lasts_s())]

    def _zombie(self, at_s: float) -> list[Strike]:
        return [Strike(at_s, "zombie", self._rng.choice(self._servers), self._lasts_s())]

    def _cut_off(self, at_s: float) -> list[Strike]:
        return [Strike(at_s, "cut_off", self._rng.choice(self._servers), self._lasts_s())]

    def _ambush(self, at_s: float) -> list[Strike]:
        does = self._rng.choice(("crash", "crash", "zombie", "cut_off"))
        return [Strike(at_s, "ambush", does, self._rng.uniform(0.3, 6.0))]

    def _gateway(self, at_s: float) -> list[Strike]:
        return [Strike(at_s, "crash", self._rng.choice(self._gateways), self._rng.uniform(0.1, 1.5))]

    def _gateway_zombie(self, at_s: float) -> list[Strike]:
        return [Strike(at_s, "zombie", self._rng.choice(self._gateways), self._rng.uniform(0.5, 5.0))]

    def _partition(self, at_s: float) -> list[Strike]:
        """One way."""
        a, b = self._rng.sample(self._servers, 2)
        return [Strike(at_s, "partition", f"{a}>{b}", self._rng.uniform(0.5, 4.0))]

    def _gateway_partition(self, at_s: float) -> list[Strike]:
        """One way, or both."""
        rng = self._rng
        a, b = rng.choice(self._servers), rng.choice(self._gateways)
        lasts_s = rng.uniform(0.5, 3.0)
        ways = rng.choice(([(a, b)], [(b, a)], [(a, b), (b, a)]))
        return [Strike(at_s, "partition", f"{x}>{y}", lasts_s) for x, y in ways]

    def _store_partition(self, at_s: float) -> list[Strike]:
        """One game server and the store, no longer than it may last before that server gives up."""
        return [Strike(at_s, "store_away", self._rng.choice(self._servers), self._rng.uniform(0.3, 4.0))]

    def _store_away(self, at_s: float) -> list[Strike]:
        """From everyone; now and then for long."""
        lasts_s = self._rng.uniform(0.3, 4.0) if self._rng.random() < 0.8 else self._rng.uniform(8.0, 30.0)
        return [Strike(at_s, "store_away", "", lasts_s)]

    def _all_servers(self, at_s: float) -> list[Strike]:
        """At once."""
        down_s = self._rng.uniform(0.1, 2.0)
        return [Strike(at_s, "crash", name, down_s * self._rng.random()) for name in self._servers]

    def _both(self, at_s: float) -> list[Strike]:
        """A gateway and a game server within a second."""
        return [*self._gateway(at_s), *self._crash(at_s + self._rng.random())]

    def _stall(self, at_s: float) -> list[Strike]:
        """A client that reads nothing."""
        return [Strike(at_s, "stall", self._player(), self._rng.uniform(0.5, 3.0))]
