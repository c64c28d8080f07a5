"""Setting up a Couchbase cluster: from nothing, from half, from done; and what stops it, each as one sentence."""

from pathlib import Path

import httpx
import pytest

from cluster.couchbase.rest import ManagementApi, SetupFailed
from cluster.couchbase.setup import SERVICES, Setup, Wanted
from cluster.verbs.init_couchbase import init_couchbase
from runtime.service import StartRefused
from runtime.settings import SettingsError
from runtime.store.opening import Credentials
from tests.support.fake_couchbase import FakeCluster, FakeCouchbase, on_real_ports
from world.limits import COUCHBASE_NODE_WAIT_S, COUCHBASE_STALL_S

NODES = ("cb1.lan", "cb2.lan", "cb3.lan")
ADMIN = Credentials("Administrator", "secret of the admin")
USER = Credentials("projectk", "secret of the world")


class Run:
    """One run of the set-up against the fake, on a clock that pauses move."""

    def __init__(self, fake: FakeCouchbase, *, admin: Credentials = ADMIN, failover_s: int = 30) -> None:
        self.said: list[str] = []
        self.now_s = 0.0
        wanted = Wanted(NODES, "world", USER, 2, 1_024, 256, failover_s)
        api = ManagementApi(httpx.Client(transport=fake.transport()), admin)
        self.setup = Setup(wanted, api, self.said.append, now_s=lambda: self.now_s, pause=self._pause)

    def _pause(self, seconds: float) -> None:
        self.now_s += seconds

    def refused(self) -> str:
        with pytest.raises(SetupFailed) as refused:
            self.setup.run()
        assert "secret" not in f"{refused.value}{self.said}"
        return str(refused.value)


def done() -> FakeCouchbase:
    fake = FakeCouchbase(*NODES)
    Run(fake).setup.run()
    fake.asked.clear()
    return fake


def cluster_of(fake: FakeCouchbase) -> FakeCluster:
    cluster = fake.nodes[NODES[0]].cluster
    assert cluster is not None
    assert all(node.cluster is cluster for node in fake.nodes.values())
    return cluster


def check(cluster: FakeCluster) -> None:
    """All that a world needs."""
    assert cluster.members == dict.fromkeys(NODES, "active")
    assert cluster.services == dict.fromkeys(NODES, SERVICES)
    assert (cluster.balanced, cluster.rebalance, cluster.ejected) == (True, [], [])
    assert (cluster.failover["enabled"], cluster.failover["timeout"]) == (True, 30)
    bucket = cluster.buckets["world"]
    assert (bucket["replicaNumber"], bucket["ramQuota"], bucket["flushEnabled"]) == (2, "1024", "0")
    assert cluster.users["projectk"] == {"password": USER.password, "roles": "bucket_full_access[world]"}


@pytest.mark.parametrize("enterprise", [False, True])
def test_fresh_nodes_become_a_cluster_with_the_bucket(enterprise: bool) -> None:
    fake = FakeCouchbase(*NODES, enterprise=enterprise)
    run = Run(fake)
    run.setup.run()
    check(cluster_of(fake))
    assert run.said == [
        "cb1.lan begins a cluster",
        "a node that is down for 30 s is failed over",
        "cb2.lan is added",
        "cb3.lan is added",
        "a rebalance begins",
        "rebalancing: 0 %",
        "rebalancing: 41 %",
        "rebalancing: 88 %",
        "the bucket world is made, with 2 replicas",
        "waiting for every node to serve world",
        "the user projectk may use the bucket world",
        "ready: 3 nodes hold the bucket world",
    ]


def test_a_cluster_that_is_done_is_left_alone() -> None:
    fake = done()
    Run(fake).setup.run()
    check(cluster_of(fake))
    assert fake.changes() == ["PUT cb1.lan /settings/rbac/users/local/projectk"]  # the password, which may be a new one


@pytest.mark.parametrize(
    "cut_after",
    [
        "POST cb1.lan /clusterInit",
        "POST cb1.lan /settings/autoFailover",
        "POST cb1.lan /controller/addNode",
        "POST cb1.lan /controller/rebalance",
        "POST cb1.lan /pools/default/buckets",
        "PUT cb1.lan /settings/rbac/users/local/projectk",
    ],
)
def test_a_run_that_was_cut_short_is_gone_on_with(cut_after: str) -> None:
    fake = FakeCouchbase(*NODES)
    fake.cut_after = cut_after
    assert Run(fake).refused().startswith("cb1.lan does not answer on port 8091")
    Run(fake).setup.run()
    check(cluster_of(fake))


def test_nodes_that_are_not_up_yet_are_waited_for() -> None:
    fake = FakeCouchbase(*NODES)
    fake.nodes["cb3.lan"].refuses = 25
    run = Run(fake)
    run.setup.run()
    check(cluster_of(fake))
    assert run.said[0] == "waiting for cb3.lan to answer"
    assert 25 <= run.now_s < 60


def test_a_node_that_never_comes_is_named_in_time() -> None:
    fake = FakeCouchbase(*NODES[:2])
    run = Run(fake)
    assert run.refused() == "Waited 180 s for cb3.lan to answer, in vain: see whether it runs, and its log."
    assert run.now_s == pytest.approx(COUCHBASE_NODE_WAIT_S, abs=2)
    assert fake.changes() == []


def test_a_wrong_password_is_said_and_nothing_is_changed() -> None:
    fake = done()
    assert (
        Run(fake, admin=Credentials("Administrator", "another secret"))
        .refused()
        .startswith("cb1.lan refuses the administrator Administrator: the password is not the one")
    )
    assert fake.changes() == []


def test_a_rebalance_that_fails_is_said_and_the_next_run_repairs_it() -> None:
    fake = FakeCouchbase(*NODES)
    fake.fails = "Rebalance failed. See logs for detailed reason. You can try again."
    assert Run(fake).refused().startswith("The rebalance has failed, says Couchbase: Rebalance failed. See logs")
    assert cluster_of(fake).buckets == {}
    Run(fake).setup.run()
    check(cluster_of(fake))


def test_a_rebalance_that_stands_still_is_not_waited_for_without_end() -> None:
    fake = FakeCouchbase(*NODES)
    fake.stalls = True
    run = Run(fake)
    assert run.refused().startswith("The rebalance stands at 0 % and does not end")
    assert run.now_s == pytest.approx(COUCHBASE_STALL_S, abs=5)


def test_somebody_elses_rebalance_is_waited_for() -> None:
    fake = done()
    cluster_of(fake).rebalance = [10, 50]
    run = Run(fake)
    run.setup.run()
    assert "rebalancing: 50 %" in run.said
    assert not [change for change in fake.changes() if "rebalance" in change]


def test_a_node_of_another_cluster_is_refused() -> None:
    fake = done()
    fake.nodes["cb2.lan"].cluster = FakeCluster(("Administrator", ADMIN.password), {"cb2.lan": "active"})
    del fake.nodes["cb1.lan"].cluster.members["cb2.lan"]  # type: ignore[union-attr]
    assert Run(fake).refused().startswith("cb2.lan belongs to another cluster than cb1.lan")
    assert fake.changes() == []


def test_a_node_that_was_failed_over_is_left_to_the_operator() -> None:
    fake = done()
    cluster = cluster_of(fake)
    cluster.members["cb2.lan"], cluster.balanced = "inactiveFailed", False
    run = Run(fake)
    run.setup.run()
    assert [line for line in run.said if line.startswith("cb2.lan has been failed over")]
    assert (cluster.members["cb2.lan"], cluster.ejected) == ("inactiveFailed", [])
    cluster.members["cb3.lan"] = "inactiveAdded"
    assert "cb2.lan has been failed over, and another node waits" in Run(fake).refused()
    assert cluster.ejected == []


def test_too_few_replicas_become_enough() -> None:
    fake = done()
    cluster_of(fake).buckets["world"]["replicaNumber"] = 1
    Run(fake).setup.run()
    check(cluster_of(fake))
    assert [c for c in fake.changes() if c.startswith("POST")] == [
        "POST cb1.lan /pools/default/buckets/world", "POST cb1.lan /controller/rebalance",
    ]  # fmt: skip


def test_the_first_node_may_be_the_one_that_is_new() -> None:
    """Its volume was lost: the cluster is found at the others, and it is not made the beginning of a second one."""
    fake = done()
    cluster = cluster_of(fake)
    del cluster.members["cb1.lan"]
    fake.nodes["cb1.lan"].cluster = None
    Run(fake).setup.run()
    check(cluster_of(fake))
    assert not [change for change in fake.changes() if "clusterInit" in change]


def test_couchbases_own_words_are_passed_on() -> None:
    said = Run(FakeCouchbase(*NODES), failover_s=5).refused()
    assert said.startswith("cb1.lan answers 400 to POST /settings/autoFailover:")
    assert "between 30 and 3600" in said


# -- the command -------------------------------------------------------------------------------------------------------
STORE = "couchbase://127.0.0.11,127.0.0.12,127.0.0.13/world"


@pytest.fixture
def secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Credentials as files; the folder they are in."""
    for name, content in (("admin", ADMIN.password), ("user", USER.password)):
        (tmp_path / name).write_text(content + "\n")
    monkeypatch.setenv("PROJECTK_COUCHBASE_ADMIN_USER", "Administrator")
    monkeypatch.setenv("PROJECTK_COUCHBASE_ADMIN_PASSWORD_FILE", str(tmp_path / "admin"))
    monkeypatch.setenv("PROJECTK_STORE_USER", "projectk")
    monkeypatch.setenv("PROJECTK_STORE_PASSWORD_FILE", str(tmp_path / "user"))
    return tmp_path


def test_the_command_over_real_connections(secrets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fake = FakeCouchbase("127.0.0.11", "127.0.0.12", "127.0.0.13")
    fake.percents, fake.warmup = [50], 0
    with on_real_ports(fake) as port:
        init_couchbase(STORE, management_port=port)
        (secrets / "admin").write_text("another secret\n")
        with pytest.raises(SetupFailed, match=r"^127\.0\.0\.11 refuses the administrator Administrator"):
            init_couchbase(STORE, management_port=port)
    said = capsys.readouterr().out
    assert said.splitlines()[-1] == "ready: 3 nodes hold the bucket world"
    assert "secret" not in said


@pytest.mark.parametrize(
    ("store", "said"),
    [
        ("sqlite:///w.sqlite", "--store: name the nodes and the bucket"),
        ("couchbase://cb1,cb2.lan,cb3.lan/w", "--store: Couchbase takes no node name without a dot"),
        ("couchbase://cb1.lan,cb2.lan/w", "--couchbase-replicas: 2 replicas need 3 nodes"),
    ],
)
def test_mistakes_are_one_sentence(store: str, said: str, secrets: Path) -> None:
    with pytest.raises(SettingsError, match=f"^{said}"):
        init_couchbase(store)


def test_missing_credentials_are_named(secrets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PROJECTK_COUCHBASE_ADMIN_USER")
    with pytest.raises(StartRefused, match="PROJECTK_COUCHBASE_ADMIN_USER"):
        init_couchbase(STORE)
