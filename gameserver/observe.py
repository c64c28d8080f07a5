"""What the observer page and the metrics see of a game server; asking wakes nothing."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Gauge

from gameserver.interest import REGION_PREFIX
from gameserver.presence import Presences
from gameserver.state import StateSide
from gameserver.units import UnitTable
from runtime.mesh.api import Mesh, Sender
from world.messages import AskObserve, Json, Observed


class Observer:
    """Answers ``AskObserve``, and says this server's load in the book."""

    def __init__(
        self,
        mesh: Mesh,
        table: UnitTable,
        presences: Presences,
        state: StateSide,
        renewals: Callable[[], int],
        cap: int,
    ) -> None:
        self._mesh = mesh
        self._table = table
        self._presences = presences
        self._state = state
        self._renewals = renewals
        self._cap = cap

    def observe(self, _: Sender, __: AskObserve) -> Observed:
        me = self._mesh.me
        view: Json = {"server": me.id, "generation": me.generation, "regions": self._regions()}
        return Observed({**view, **self._state.observe()})

    def _regions(self) -> list[list[int]]:
        regions = []
        for owned in self._table:
            if owned.key.startswith(REGION_PREFIX):
                x, y = owned.key.removeprefix(REGION_PREFIX).split(",")
                regions.append([int(x), int(y), owned.unit.epoch])
        return sorted(regions)

    def tell_load(self) -> None:
        """What placement, caps and the judgement of a lost store go by."""
        self._mesh.update_me(
            load={
                "avatars": len(self._presences),
                "cap": self._cap,
                "regions": sum(1 for owned in self._table if owned.key.startswith(REGION_PREFIX)),
                "seers": {f"{x},{y}": count for (x, y), count in self._state.seers().items()},
                "tick_ms": round(self._state.tick_ms, 2),
                "ghost_age_ms": round(self._state.ghost_age_ms(), 1),
                "renewed": self._renewals(),
            }
        )


def measure(registry: CollectorRegistry, gauges: dict[str, tuple[str, Callable[[], float]]]) -> None:
    """name -> (help, reading): read when /metrics is asked for."""
    for name, (text, reading) in gauges.items():
        Gauge(f"projectk_{name}", text, registry=registry).set_function(reading)
