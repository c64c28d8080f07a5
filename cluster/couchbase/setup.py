"""From nodes that have just been started to a Couchbase cluster with the world's bucket, and safe to repeat.

::

    every node answers ─> one of them is a cluster (made of the first, if none is) ─> auto-failover
      ─> those missing are added ─> rebalance, until done ─> the bucket, until every node serves it ─> the world's user

Each step looks at what is there and does only what is missing, so a run that was cut short, or a second one beside it,
goes on where things stand. What an operator decides is never decided here: no node is failed over, ejected or given
back, no bucket is emptied or removed, no memory quota of a cluster that exists is changed.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cluster.couchbase.rest import Json, ManagementApi, SetupFailed, Unanswered
from runtime.store.opening import Credentials
from world.limits import COUCHBASE_LOOK_S, COUCHBASE_NODE_WAIT_S, COUCHBASE_REBALANCE_S, COUCHBASE_STALL_S

SERVICES = "kv,index,n1ql"  # of every node: the Community Edition knows few other combinations
DETAILS = "/pools/default"
BUCKETS = "/pools/default/buckets"


@dataclass(frozen=True, slots=True)
class Wanted:
    """The cluster that should be there. ``nodes``: names with a dot, which Couchbase insists on; the first is where a
    cluster begins. ``user``: whom the world's processes come as; may use this bucket and nothing else."""

    nodes: Sequence[str]
    bucket: str
    user: Credentials
    replicas: int
    memory_mb: int  # of each node, for the bucket
    index_memory_mb: int  # of each node, for indexes that operators search by
    failover_s: int


class Setup:
    """``say`` prints a line of progress; the clock and the pause are the caller's, so that tests do not wait."""

    def __init__(
        self,
        wanted: Wanted,
        api: ManagementApi,
        say: Callable[[str], None],
        *,
        now_s: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._wanted = wanted
        self._api = api
        self._say = say
        self._now_s = now_s
        self._pause = pause
        self._entry = wanted.nodes[0]  # the member that is asked for all that concerns the cluster

    def run(self) -> None:
        """Raises SetupFailed."""
        for node in self._wanted.nodes:
            self._await_node(node)
        self._find_or_make_cluster()
        self._keep_auto_failover()
        self._add_missing()
        self._rebalance_if_needed()
        self._keep_bucket()
        self._keep_user()
        self._say(f"ready: {len(self._wanted.nodes)} nodes hold the bucket {self._wanted.bucket}")

    # -- nodes ---------------------------------------------------------------------------------------------------------
    def _await_node(self, node: str) -> None:
        def answers() -> bool:
            try:
                self._api.edition(node)
            except (Unanswered, ValueError):
                return False
            return True

        self._wait(answers, COUCHBASE_NODE_WAIT_S, f"{node} to answer")

    def _find_or_make_cluster(self) -> None:
        clusters = {node: self._api.found(node, DETAILS) for node in self._wanted.nodes}
        made = {node: details for node, details in clusters.items() if details is not None}
        if not made:
            self._make_cluster()
            return
        self._entry = max(made, key=lambda node: len(made[node]["nodes"]))
        members = _members(made[self._entry])
        for node in made:
            if node not in members:
                raise SetupFailed(
                    f"{node} belongs to another cluster than {self._entry}: to use it here, first remove its data."
                )
        self._say(f"{self._entry} has a cluster of {len(members)}")

    def _make_cluster(self) -> None:
        node, wanted = self._entry, self._wanted
        self._say(f"{node} begins a cluster")
        form = {
            "hostname": node,
            "username": self._api.admin.user,
            "password": self._api.admin.password,
            "port": "SAME",
            "clusterName": wanted.bucket,
            "services": SERVICES,
            "memoryQuota": str(wanted.memory_mb),
            "indexMemoryQuota": str(wanted.index_memory_mb),
            "indexerStorageMode": "plasma" if self._api.edition(node).get("isEnterprise") else "forestdb",
            "sendStats": "false",
        }
        self._api.do("POST", node, "/clusterInit", form, anonymous=True)
        self._wait(lambda: self._found_quietly(DETAILS) is not None, COUCHBASE_NODE_WAIT_S, f"{node} to have a cluster")

    def _keep_auto_failover(self) -> None:
        path, timeout_s = "/settings/autoFailover", self._wanted.failover_s
        now = self._api.found(self._entry, path) or {}
        if now.get("enabled") is not True or now.get("timeout") != timeout_s:
            self._api.do("POST", self._entry, path, {"enabled": "true", "timeout": str(timeout_s)})
            self._say(f"a node that is down for {timeout_s} s is failed over")

    def _add_missing(self) -> None:
        members, admin = _members(self._details()), self._api.admin
        for node in self._wanted.nodes:
            if node not in members:
                self._say(f"{node} is added")
                form = {"hostname": node, "user": admin.user, "password": admin.password, "services": SERVICES}
                self._api.do("POST", self._entry, "/controller/addNode", form)

    # -- the rebalance -------------------------------------------------------------------------------------------------
    def _rebalance_if_needed(self) -> None:
        """One that runs already is waited for, whoever began it."""
        self._await_rebalance(own=False)
        details = self._details()
        states = _members(details)
        failed = sorted(name for name, member in states.items() if member["clusterMembership"] == "inactiveFailed")
        if failed:
            self._leave_to_operator(failed, states)
        elif details.get("balanced") is not True or set(_memberships(states)) != {"active"}:
            self._rebalance(details)
        self._all_active_but(failed)

    def _leave_to_operator(self, failed: list[str], states: dict[str, Json]) -> None:
        """A rebalance now would eject what has been failed over."""
        if "inactiveAdded" in _memberships(states):
            raise SetupFailed(
                f"{', '.join(failed)} has been failed over, and another node waits to be added: give it back or remove "
                f"it in Couchbase (docs/operations.md, When a Couchbase node fails), then run this again."
            )
        self._say(f"{', '.join(failed)} has been failed over and is left as it is: see docs/operations.md")

    def _rebalance(self, details: Json) -> None:
        known = ",".join(member["otpNode"] for member in details["nodes"])
        self._say("a rebalance begins")
        self._api.do("POST", self._entry, "/controller/rebalance", {"knownNodes": known, "ejectedNodes": ""})
        self._await_rebalance(own=True)

    def _await_rebalance(self, *, own: bool) -> None:
        """Of one that is not our own the end does not matter: what it has left to do is seen afterwards."""
        began_s = moved_s = self._now_s()
        told = -1
        while (task := self._task())["status"] == "running":
            now_s, progress = self._now_s(), int(task.get("progress", 0))
            if progress != told:
                self._say(f"rebalancing: {progress} %")
                told, moved_s = progress, now_s
            if now_s - moved_s > COUCHBASE_STALL_S or now_s - began_s > COUCHBASE_REBALANCE_S:
                raise SetupFailed(f"The rebalance stands at {progress} % and does not end: see {self._entry}'s log.")
            self._pause(COUCHBASE_LOOK_S)
        if own and task.get("errorMessage"):
            raise SetupFailed(
                f"The rebalance has failed, says Couchbase: {task['errorMessage']} See {self._entry}'s log, and run "
                f"this again."
            )

    def _task(self) -> Json:
        tasks = self._api.rows(self._entry, f"{DETAILS}/tasks")
        return next((task for task in tasks if task.get("type") == "rebalance"), {"status": "notRunning"})

    def _all_active_but(self, failed: list[str]) -> None:
        states = _members(self._details())
        waiting = [n for n in self._wanted.nodes if n not in failed and states[n]["clusterMembership"] != "active"]
        if waiting:
            raise SetupFailed(
                f"{', '.join(waiting)} did not become active: see {self._entry}'s log, and run this again."
            )

    # -- what the world needs ------------------------------------------------------------------------------------------
    def _keep_bucket(self) -> None:
        wanted, path = self._wanted, f"{BUCKETS}/{self._wanted.bucket}"
        bucket = self._api.found(self._entry, path)
        if bucket is None:
            self._say(f"the bucket {wanted.bucket} is made, with {wanted.replicas} replicas")
            form = {
                "name": wanted.bucket,
                "bucketType": "couchbase",
                "ramQuota": str(wanted.memory_mb),
                "replicaNumber": str(wanted.replicas),
                "evictionPolicy": "fullEviction",  # most of a world sleeps: its keys need no memory either
                "flushEnabled": "0",
            }
            self._api.do("POST", self._entry, BUCKETS, form)
        elif bucket.get("replicaNumber", 0) < wanted.replicas:
            self._say(f"the bucket {wanted.bucket} gets {wanted.replicas} replicas")
            self._api.do("POST", self._entry, path, {"replicaNumber": str(wanted.replicas)})
            self._rebalance_if_needed()
        self._wait(self._bucket_is_served, COUCHBASE_NODE_WAIT_S, f"every node to serve {wanted.bucket}")

    def _bucket_is_served(self) -> bool:
        bucket = self._found_quietly(f"{BUCKETS}/{self._wanted.bucket}")
        active = [m for m in _members(self._details()).values() if m["clusterMembership"] == "active"]
        served = [node for node in (bucket or {}).get("nodes", []) if node.get("status") == "healthy"]
        return bool(active) and len(served) >= len(active)

    def _keep_user(self) -> None:
        """Always said again: so a changed secret is a changed password."""
        user, role = self._wanted.user, f"bucket_full_access[{self._wanted.bucket}]"
        form = {"password": user.password, "roles": role}
        self._api.do("PUT", self._entry, f"/settings/rbac/users/local/{user.user}", form)
        self._say(f"the user {user.user} may use the bucket {self._wanted.bucket}")

    # -- asking and waiting --------------------------------------------------------------------------------------------
    def _details(self) -> Json:
        details = self._api.found(self._entry, DETAILS)
        if details is None:
            raise SetupFailed(f"{self._entry} has left its cluster meanwhile; run this again.")
        return details

    def _found_quietly(self, path: str) -> Json | None:
        """None also while the node does not answer: it restarts parts of itself while it is set up."""
        try:
            return self._api.found(self._entry, path)
        except Unanswered:
            return None

    def _wait(self, true: Callable[[], bool], at_most_s: float, what: str) -> None:
        deadline_s, told = self._now_s() + at_most_s, False
        while not true():
            if self._now_s() >= deadline_s:
                raise SetupFailed(f"Waited {at_most_s:.0f} s for {what}, in vain: see whether it runs, and its log.")
            if not told:
                self._say(f"waiting for {what}")
                told = True
            self._pause(COUCHBASE_LOOK_S)


def _members(details: Json) -> dict[str, Json]:
    """Name without port → what the cluster says of the node."""
    return {str(member["hostname"]).rpartition(":")[0]: member for member in details["nodes"]}


def _memberships(states: dict[str, Json]) -> list[str]:
    return [str(member["clusterMembership"]) for member in states.values()]
