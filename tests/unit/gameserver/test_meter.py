from structlog.typing import EventDict

from gameserver.meter import TickMeter
from runtime.service import Service
from tests.support.aio import run


def test_a_tick_over_budget_is_logged_with_what_took_the_time() -> None:
    async def scene() -> list[EventDict]:
        lines: list[EventDict] = []
        at = iter([0.0, 0.010, 0.150, 1.0, 1.010, 1.020])
        meter = TickMeter(Service.for_test(lines=lines), timer_s=lambda: next(at))
        for _ in range(2):
            meter.start()
            meter.lap("walk")
            meter.lap("publish")
            meter.stop(entities=7)
        assert meter.recent_ms > 0
        return lines

    (line,) = run(scene())
    assert (line["event"], line["took_ms"], line["publish"], line["walk"], line["entities"]) == (
        "tick over budget",
        150.0,
        140.0,
        10.0,
        7,
    )
