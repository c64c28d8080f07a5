"""What the nemesis can do. Each fault strikes, waits as long as it lasts, and ends with all processes running again;
the healing goes on by itself afterwards."""

from collections.abc import Callable, Mapping
from pathlib import Path

from tests.chaos.stage import PROXIED, Stage, fill
from tests.support.couchbase_mock import NO_MEMORY
from tests.support.processes import wait_until

PAUSE_S = 10.0
STORE_AWAY_S = 30.0
PARTITION_S = 10.0
DISK_FULL_S = 8.0
UNSEEN_S = 8.0  # longer than silence takes to be death
SLOW_MS, SLOW_S = 500, 2.0
FAILING_S = 2.0
LOST_ANSWERS, LOST_S = 10, 20.0

Fault = Callable[[Stage], None]


def _kill_one(role: str) -> Fault:
    def fault(stage: Stage) -> None:
        kind = f"kill-{role}"
        node = stage.any_of(role)
        stage.struck(kind, node)
        killed = stage.kill(node)
        stage.wait_back(killed)
        stage.over(kind, node)

    return fault


def kill_unseen(stage: Stage) -> None:
    """A game server dies while its parent stands still, as when a machine vanishes: only its silence tells of it."""
    node = stage.any_of("gameserver")
    stage.struck("kill-gameserver-silent", node)
    with stage.unwatched():
        killed = stage.kill(node)
        stage.last(UNSEEN_S)
    stage.wait_back(killed)
    stage.over("kill-gameserver-silent", node)


def kill_both(stage: Stage) -> None:
    """A gateway and a game server in the same moment."""
    nodes = stage.any_of("gateway"), stage.any_of("gameserver")
    stage.struck("kill-both", " ".join(nodes))
    stage.wait_back(stage.kill(*nodes))
    stage.over("kill-both", " ".join(nodes))


def kill_brokers(stage: Stage) -> None:
    """All of them."""
    nodes = sorted(stage.pids("broker"))
    stage.struck("kill-brokers", " ".join(nodes))
    stage.wait_back(stage.kill(*nodes))
    stage.over("kill-brokers", " ".join(nodes))


def slow_nodes(stage: Stage) -> None:
    """All of Couchbase's nodes hold back each answer for SLOW_MS."""
    assert stage.mock is not None
    stage.struck("slow-nodes", "all nodes")
    stage.mock.command("hiccup", msecs=SLOW_MS, offset=5)
    stage.last(SLOW_S)
    stage.mock.command("hiccup", msecs=0, offset=0)
    stage.over("slow-nodes", "all nodes")


def failing_node(stage: Stage) -> None:
    """One of them has no memory left, and says so."""
    assert stage.mock is not None
    node = stage.rng.randrange(len(stage.mock.ports))
    stage.struck("failing-node", f"node {node}")
    stage.mock.command("opfail", code=NO_MEMORY, count=-1, servers=[node])
    stage.last(FAILING_S)
    stage.mock.command("opfail", code=NO_MEMORY, count=0, servers=[node])
    stage.over("failing-node", f"node {node}")


def lost_answers(stage: Stage) -> None:
    """Writes are applied, and instead of the answer their connection is cut, with all that was under way on it."""
    assert stage.mock is not None
    stage.struck("lost-answers", "all nodes")
    stage.mock.shim.lose = LOST_ANSWERS
    wait_until(lambda: not stage.mock or not stage.mock.shim.lose, LOST_S, "answers are lost")
    stage.over("lost-answers", "all nodes")


def join_server(stage: Stage) -> None:
    """One more game server, through any member."""
    node = f"gs{20 + len(stage.running.joined)}"
    stage.struck("join-gameserver", node)
    stage.running.join("gameserver", node, stage.member(), log_file=stage.running.data / "logs" / f"{node}.log")
    stage.over("join-gameserver", node)


def _pause(role: str, seconds: float, kind: str) -> Fault:
    def fault(stage: Stage) -> None:
        node = stage.any_of(role)
        pid = stage.pids()[node]
        stage.struck(kind, node)
        with stage.stopped(node):
            stage.last(seconds)
        stage.over(kind, node)
        if role == "gameserver":  # it finds out that it is dead, and ends
            stage.wait_gone(node, pid)
            stage.wait_back({node: pid})

    return fault


def store_dead(stage: Stage) -> None:
    """Killed, and started again by hand after STORE_AWAY_S: for clusters that restart nothing."""
    stage.struck("store-dead", "st1")
    stage.kill("st1")
    stage.last(STORE_AWAY_S)
    stage.running.join("store", "st1", stage.member(), data=stage.running.data)
    stage.over("store-dead", "st1")


def _partition(kind: str, *, both_ways: bool) -> Fault:
    def fault(stage: Stage) -> None:
        assert stage.network is not None
        one, other = PROXIED if stage.rng.random() < 0.5 else PROXIED[::-1]
        stage.struck(kind, f"{one} {other}")
        stage.network.cut(one, other)
        if both_ways:
            stage.network.cut(other, one)
        stage.last(PARTITION_S)
        stage.network.heal()
        stage.over(kind, f"{one} {other}")

    return fault


def fill_disk(stage: Stage) -> None:
    """The data folder's disk has no byte left; then it has again."""
    ballast = Path(stage.running.data) / "ballast"
    stage.struck("fill-disk", "st1")
    fill(ballast)
    stage.last(DISK_FULL_S)
    ballast.unlink()
    stage.over("fill-disk", "st1")


def power_cut(stage: Stage) -> None:
    """kill -9 of everything at once, then a start on the same data."""
    stage.struck("power-cut", "all")
    stage.running.kill_everything()
    stage.running.start()
    stage.over("power-cut", "all")


def _drain(role: str) -> Fault:
    """As an operator does it, who then has it started anew."""

    def fault(stage: Stage) -> None:
        kind = f"drain-{role}"
        node = stage.any_of(role)
        pid = stage.pids()[node]
        stage.struck(kind, node)
        stage.operate("drain", node, "--wait")
        stage.wait_gone(node, pid)
        stage.operate("deploy", "--node", node)
        stage.over(kind, node)

    return fault


def deploy(stage: Stage) -> None:
    """Every process to the code now installed, one after the other."""
    stage.struck("deploy", "")
    stage.operate("deploy")
    stage.over("deploy", "")


FAULTS: Mapping[str, Fault] = {
    "kill-gateway": _kill_one("gateway"),
    "kill-gameserver": _kill_one("gameserver"),
    "kill-login": _kill_one("login"),
    "kill-store": _kill_one("store"),
    "kill-gameserver-silent": kill_unseen,
    "kill-both": kill_both,
    "kill-broker": _kill_one("broker"),
    "kill-brokers": kill_brokers,
    "failing-node": failing_node,
    "lost-answers": lost_answers,
    "slow-nodes": slow_nodes,
    "join-gameserver": join_server,
    "pause-gameserver": _pause("gameserver", PAUSE_S, "pause-gameserver"),
    "pause-gateway": _pause("gateway", PAUSE_S, "pause-gateway"),
    "pause-store": _pause("store", PAUSE_S, "pause-store"),
    "store-away": _pause("store", STORE_AWAY_S, "store-away"),
    "store-dead": store_dead,
    "partition": _partition("partition", both_ways=True),
    "partition-one-way": _partition("partition-one-way", both_ways=False),
    "fill-disk": fill_disk,
    "power-cut": power_cut,
    "drain-gameserver": _drain("gameserver"),
    "drain-gateway": _drain("gateway"),
    "deploy": deploy,
}
