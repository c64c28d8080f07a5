"""A deployment: every process of the running cluster, one after the other, on the code now installed.

::

    a step:  draining ──SIGTERM, its end──> starting ──ready line, the book──> ready ──nobody suspected──> the next
                                               └── not within READY_MS: failed, and the deployment with it
    all ready: cluster:format is raised to what everybody writes now; done

Order (``plan.ROLL_ORDER``): those who hold nothing come first, so that a release that does not start is found out
before anybody's avatar has moved for it: brokers, which nobody needs; the store, so that newer processes find it as new
as they are; logins, which gateways ask; gateways, whose clients go to another one; game servers last, because what they
give away they give to those that are still to be rolled.

Where one does not become ready, nothing else is touched: the others go on with the old code, and the cluster is one of
mixed versions. The one that failed is started again as after any death, so that the earlier release, put back into
place, is all it needs. This process itself goes on with the code that it was started with.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from cluster.supervisor.child import ChildFailed
from cluster.supervisor.member import Cluster, OutOfMesh
from cluster.supervisor.plan import ROLL_ORDER, Planned
from runtime.mesh.api import Mesh, Refused, Sender
from runtime.store.api import StoreError, StoreOpenError
from world.limits import DEPLOY_LOOK_MS, DEPLOY_REST_MS, READY_MS, STORE_RETRY_CAP_MS
from world.messages import AskDeployment, Deploy, Deployment


class Processes(Protocol):
    """What a deployment does to processes."""

    def known(self, node: str) -> Planned | None:
        """One of mine, also if it was drained."""
        ...

    def rolled(self) -> Sequence[Planned]:
        """Those that belong to the cluster now, in the plan's order: not those that were drained."""
        ...

    def held(self, node: str) -> AbstractAsyncContextManager[object]:
        """In the block nobody else starts it again."""
        ...

    async def end(self, node: str) -> None:
        """Drain it; killed where that takes too long."""
        ...

    async def begin(self, node: str) -> None:
        """Start it and wait for its ready line. Raises ChildFailed."""
        ...


@dataclass(slots=True)
class Step:
    """One process. ``state``: waiting, draining, starting, ready, failed."""

    planned: Planned
    state: str = "waiting"
    seconds: float = 0.0

    def view(self) -> dict[str, Any]:
        role, node = self.planned.role, self.planned.id
        return {"id": node, "role": role, "state": self.state, "seconds": round(self.seconds, 3)}


@dataclass(slots=True)
class Roll:
    """One deployment. ``state``: running, done, failed; ``format``: of documents, before and after (0: not known)."""

    id: str
    steps: list[Step]
    state: str = "running"
    problem: str = ""
    format: tuple[int, int] = field(default=(0, 0))

    def view(self) -> dict[str, Any]:
        before, after = self.format
        return {
            "id": self.id,
            "state": self.state,
            "steps": [step.view() for step in self.steps],
            "problem": self.problem,
            "format": {"from": before, "to": after},
        }


class Deployments:
    """One at a time; the last one is remembered. ``run`` does the work, ``serve`` is asked by gateways."""

    def __init__(self, processes: Processes, cluster: Cluster, event: Callable[[str], None]) -> None:
        self._processes = processes
        self._cluster = cluster
        self._event = event
        self._asked = asyncio.Event()
        self._count = 0
        self.last: Roll | None = None

    # -- asked -------------------------------------------------------------------------------------------------------
    def serve(self, mesh: Mesh) -> None:
        mesh.serve(Deploy, lambda _, message: Deployment(self.begin(message.node, mesh.me.generation).view()))
        mesh.serve(AskDeployment, self._answer)

    def begin(self, node: str = "", generation: int = 0) -> Roll:
        """The one that runs; else a new one, of ``node`` only where one is named. ``generation``: mine, so that no id
        comes twice. Raises Refused ``no_such_target``."""
        if self.last is None or self.last.state != "running":
            self._count += 1
            self.last = Roll(f"{generation}-{self._count}", [Step(p) for p in self._to_roll(node)])
            self._asked.set()
        return self.last

    def _to_roll(self, node: str) -> list[Planned]:
        if not node:
            return sorted(self._processes.rolled(), key=lambda p: ROLL_ORDER.index(p.role))
        planned = self._processes.known(node)
        if planned is None:
            raise Refused("no_such_target", f"no {node} here")
        return [planned]

    def _answer(self, _: Sender, message: AskDeployment) -> Deployment:
        if self.last is None or message.id not in ("", self.last.id):
            raise Refused("no_such_target", f"no deployment {message.id}")
        return Deployment(self.last.view())

    # -- done --------------------------------------------------------------------------------------------------------
    async def run(self) -> None:
        """For ever: what was asked for."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            assert self.last is not None
            await self._deploy(self.last)

    async def _deploy(self, roll: Roll) -> None:
        self._event(f"deploying {', '.join(step.planned.id for step in roll.steps)}, one at a time")
        self._cluster.deploying(True)
        try:
            await self._roll_all(roll)
        except ChildFailed as failed:
            roll.state, roll.problem = "failed", str(failed)
            self._event(f"the deployment has failed and stopped: {failed}")
        else:
            roll.state = "done"
            before, after = roll.format
            self._event("deployed" + (f"; documents go from format {before} to {after}" if before != after else ""))
        finally:
            self._cluster.deploying(False)
        self._cluster.note(id=roll.id, node="", state=roll.state)

    async def _roll_all(self, roll: Roll) -> None:
        """Raises ChildFailed."""
        for step in list(roll.steps):
            if roll.steps[0].state != "waiting":
                await asyncio.sleep(DEPLOY_REST_MS / 1_000)
            await self._calm(step)
            if len(roll.steps) > 1 and not self._belongs(step.planned.id):
                roll.steps.remove(step)  # drained by an operator meanwhile
                continue
            await self._timed(roll, step)
        roll.format = await self._raise_format()

    async def _timed(self, roll: Roll, step: Step) -> None:
        loop = asyncio.get_running_loop()
        began_s = loop.time()

        def enter(state: str) -> None:
            step.state, step.seconds = state, loop.time() - began_s
            self._cluster.note(id=roll.id, node=step.planned.id, state=state)

        try:
            await self._roll(step, enter)
        except ChildFailed:
            enter("failed")
            raise
        enter("ready")
        self._event(f"deployed {step.planned.id} in {step.seconds:.1f} s")

    async def _roll(self, step: Step, enter: Callable[[str], None]) -> None:
        node = step.planned.id
        async with self._processes.held(node):
            before = self._cluster.member(node)
            enter("draining")
            await self._processes.end(node)
            enter("starting")
            await self._processes.begin(node)
            generation = before.generation if before is not None else 0
            await self._until(lambda: self._shown(node, generation), f"{node} is not ready by the book")

    def _shown(self, node: str, above: int) -> bool:
        member = self._cluster.member(node)
        return (
            member is not None
            and member.generation > above
            and member.status == "ready"
            and not self._cluster.suspected(node)
        )

    async def _calm(self, step: Step) -> None:
        """Before anybody leaves, all others are there: one at a time also counts those who fell by themselves, and
        those who leave by an operator's wish. Raises ChildFailed."""
        node = step.planned.id
        await self._until(lambda: not self._draining(node), f"{node} is being drained")
        for other in (p.id for p in self._processes.rolled() if p.id != node):
            await self._until(partial(self._there, other), f"{other} is missing: {node} stays")

    def _there(self, node: str) -> bool:
        return not self._belongs(node) or self._shown(node, 0)

    def _draining(self, node: str) -> bool:
        member = self._cluster.member(node)
        return self._belongs(node) and member is not None and member.status == "draining"

    def _belongs(self, node: str) -> bool:
        return any(planned.id == node for planned in self._processes.rolled())

    async def _until(self, holds: Callable[[], bool], problem: str) -> None:
        """Raises ChildFailed after READY_MS."""
        try:
            async with asyncio.timeout(READY_MS / 1_000):
                while not holds():  # noqa: ASYNC110 - the book also changes by silence, which nobody reports
                    await asyncio.sleep(DEPLOY_LOOK_MS / 1_000)
        except TimeoutError:
            raise ChildFailed(f"{problem} (waited {READY_MS / 1_000:.0f} s).") from None

    async def _raise_format(self) -> tuple[int, int]:
        """Tries for READY_MS: the store may have its own troubles. Raises ChildFailed."""
        problem = ""
        try:
            async with asyncio.timeout(READY_MS / 1_000):
                while True:
                    try:
                        return await self._cluster.raise_format()
                    except (StoreError, StoreOpenError, OutOfMesh) as error:
                        problem = repr(error)
                    await asyncio.sleep(STORE_RETRY_CAP_MS / 1_000)
        except TimeoutError:
            raise ChildFailed(f"all is rolled, but the format of documents could not be raised: {problem}.") from None
