"""The rows of docs/reliability.md: which faults, on which cluster, against which bounds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Bound:
    """``metric`` of ``kind`` at most ``most``: of samples their ``at`` percentile (100: the maximum); ``count``: of
    all counts whose name begins with ``metric``."""

    kind: str
    metric: str
    most: float
    at: int = 99
    count: bool = False


def none(kind: str, counted: str) -> Bound:
    return Bound(kind, counted, 0, count=True)


@dataclass(frozen=True, slots=True)
class Row:
    """``first`` once, then ``faults`` one after the other, ``repeat`` times, each with ``settle_s`` to heal; those only
    that the store can have (``tests.chaos.backing``)."""

    faults: tuple[str, ...]
    bounds: tuple[Bound, ...]
    flags: Mapping[str, Any] = field(default_factory=dict)
    first: tuple[str, ...] = ()
    settle_s: float = 10.0
    lasts_s: float = 0.0  # of pauses, partitions and the like; 0: as long as each of them says
    proxied: bool = False
    small_disk: bool = False
    nobody_ends: bool = False  # no process may end of this
    trade: float = 0.0  # share of the bots that trade; and at the end, all that is on its way has to arrive
    every_s: tuple[float, float] = (0.0, 0.0)  # a row that may storm for a given time: so long between two strikes


ON_COUCHBASE = ("slow-nodes", "failing-node", "lost-answers")
NO_RESTART = {"restart": "never", "gameservers": 4, "gateways": 3}

GATEWAY = (Bound("kill-gateway", "usable_s", 3.0), Bound("kill-gateway", "login_s", 4.0))
GAMESERVER = (
    Bound("kill-gameserver", "acts_s", 4.0),
    Bound("kill-gameserver", "rollback_ms", 500, at=100),
    none("kill-gameserver", "closed"),
)

SILENT = (
    Bound("kill-gameserver-silent", "acts_s", 6.0),
    Bound("kill-gameserver-silent", "rollback_ms", 500, at=100),
    none("kill-gameserver-silent", "closed"),
)

ROWS: Mapping[str, Row] = {
    "kill-gateway": Row(("kill-gateway",), GATEWAY),
    "kill-gameserver": Row(("kill-gameserver",), GAMESERVER),
    "kill-gameserver-silent": Row(("kill-gameserver-silent",), SILENT),
    "kill-both": Row(("kill-both",), (Bound("kill-both", "usable_s", 5.0), Bound("kill-both", "acts_s", 4.0))),
    "pause-gameserver": Row(("pause-gameserver",), (none("pause-gameserver", "closed"),)),
    "pause-store": Row(
        ("pause-store",), (none("pause-store", "closed"), none("pause-store", "unanswered")), nobody_ends=True
    ),
    "pause-gateway": Row(("pause-gateway",), (), settle_s=15),
    "drain-gameserver": Row(
        ("drain-gameserver",),
        (
            none("drain-gameserver", "closed"),
            none("drain-gameserver", "failed"),
            Bound("drain-gameserver", "pause_ms", 250),
        ),
    ),
    "drain-gateway": Row(("drain-gateway",), (none("drain-gateway", "closed 1006"), none("drain-gateway", "failed"))),
    "deploy": Row(
        ("deploy",),
        (none("deploy", "closed 1006"), none("deploy", "failed"), Bound("deploy", "pause_ms", 250)),
    ),
    "no-brokers": Row(
        ("kill-gateway", "kill-gameserver", "join-gameserver"),
        (*GATEWAY, *GAMESERVER, none("join-gameserver", "login failed")),
        NO_RESTART,
        first=("kill-brokers",),
    ),
    "kill-login": Row(("kill-login",), (none("kill-login", "login failed"), none("kill-login", "closed"))),
    "partition": Row(
        ("partition",),
        (Bound("partition", "heal_s", 5.0, at=100), none("partition", "closed")),
        {"gameservers": 1},
        settle_s=15,
        proxied=True,
        nobody_ends=True,
    ),
    "partition-one-way": Row(
        ("partition-one-way",),
        (Bound("partition-one-way", "heal_s", 5.0, at=100), none("partition-one-way", "closed")),
        {"gameservers": 1},
        settle_s=15,
        proxied=True,
        nobody_ends=True,
    ),
    "store-away": Row(
        ("store-away",),
        (
            none("store-away", "closed"),
            none("store-away", "unanswered"),
            Bound("store-away", "answer_s", 12.0, at=100),
        ),
        settle_s=20,
        nobody_ends=True,
    ),
    "store-dead": Row(
        ("store-dead",),
        (none("store-dead", "closed"), none("store-dead", "unanswered"), Bound("store-dead", "answer_s", 12.0, at=100)),
        {"restart": "never"},
        settle_s=20,
    ),
    "kill-store": Row(("kill-store",), (none("kill-store", "closed"),)),
    "fill-disk": Row(("fill-disk",), (none("fill-disk", "closed"),), settle_s=15, small_disk=True, nobody_ends=True),
    "power-cut": Row(("power-cut",), (), settle_s=20),
    "trading": Row(
        ("kill-gameserver", "kill-gateway", "kill-login", "kill-broker", "kill-store", *ON_COUCHBASE),
        (),
        settle_s=8,
        trade=1.0,
        every_s=(5.0, 15.0),
    ),
}
MIXED = (
    "kill-gateway",
    "kill-gameserver",
    "kill-login",
    "kill-store",
    "kill-both",
    "kill-brokers",
    "pause-gameserver",
    "pause-store",
    "pause-gateway",
    "partition",
    "partition-one-way",
    "drain-gameserver",
    "drain-gateway",
    "deploy",
)
