"""Calls without tasks, at either end, over ZeroMQ and over the simulated network."""

import asyncio
from collections.abc import Callable

import pytest

from runtime.mesh.api import Refused, Sender, Unreachable
from tests.support.mesh import Backend, Scenario, run_fake, run_zmq, until
from world.ids import NodeId
from world.messages import Awake, Interest, Message, Ok

GS1, GS2 = NodeId("gs1"), NodeId("gs2")
World = Callable[[Scenario], None]


@pytest.fixture(params=[run_zmq, run_fake], ids=["zmq", "fake"])
def world(request: pytest.FixtureRequest) -> World:
    found: World = request.param
    return found


def test_a_handlers_future_answers_and_a_future_may_be_asked_for(world: World) -> None:
    async def scenario(backend: Backend) -> None:
        a = await backend.mesh("gameserver", "gs1", 1)
        b = await backend.mesh("gateway", "gw1")
        began: dict[int, asyncio.Future[Message | None]] = {}

        def begin(sender: Sender, message: Interest) -> "asyncio.Future[Message | None]":
            assert message.epoch not in began, "seen once, though it was sent again"
            return began.setdefault(message.epoch, asyncio.get_running_loop().create_future())

        a.serve(Interest, begin)
        asked = [b.ask(GS1, Interest("x", n)) for n in range(5)]
        await until(lambda: len(began) == 5 and b.statistics.retries >= 5)
        began[0].set_result(Awake(7))
        began[1].set_result(None)
        began[2].set_exception(Refused("too_far", "12 m"))
        began[3].set_exception(KeyError("a bug"))
        asked[4].cancel()
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert answers[:2] == [Awake(7), Ok()]
        assert [str(error) for error in answers[2:4]] == ["too_far: 12 m", "internal"]
        assert isinstance(answers[4], asyncio.CancelledError)
        assert b.calls_in_flight == 0
        began[4].set_result(Ok())  # nobody waits for it any more
        await until(lambda: b.statistics.late_replies > 0)
        with pytest.raises(Unreachable):
            b.ask(GS2, Interest("x", 1))

    world(scenario)
