"""World time is slewed, never stepped, and never runs backward."""

import asyncio

from runtime.clock import LoopClock
from world.limits import CLOCK_SLEW_MS_PER_S


class FixedLoop(asyncio.SelectorEventLoop):
    now_s = 10.0

    def time(self) -> float:
        return self.now_s


def test_an_aim_is_reached_by_slewing() -> None:
    loop = FixedLoop()
    clock = LoopClock(5_000.0, loop)
    assert clock.world_ms() == 15_000
    clock.aim(5_000.0 + 2 * CLOCK_SLEW_MS_PER_S)
    assert clock.world_ms() == 15_000
    loop.now_s = 11.0
    assert clock.world_ms() == 16_000 + CLOCK_SLEW_MS_PER_S
    loop.now_s = 13.0
    assert clock.world_ms() == 18_000 + 2 * CLOCK_SLEW_MS_PER_S
    loop.close()


def test_world_time_never_runs_backward() -> None:
    loop = FixedLoop()
    clock = LoopClock(5_000.0, loop)
    clock.aim(-100_000.0)
    last = clock.world_ms()
    for _ in range(100):
        loop.now_s += 0.010
        now = clock.world_ms()
        assert now >= last
        last = now
    assert last < 15_990
    loop.close()


def test_a_step_takes_effect_at_once() -> None:
    loop = FixedLoop()
    clock = LoopClock(0.0, loop)
    clock.step(1_000.0)
    assert clock.world_ms() == 11_000
    loop.close()
