"""One side of a protocol as a table: what follows each event in each state. Pure; a shell does what the effects say and
comes back with the event that followed (``world.handoff``, ``world.trade``)."""

from collections.abc import Mapping
from enum import Enum
from typing import Generic, TypeVar

StateT = TypeVar("StateT", bound=Enum)
EventT = TypeVar("EventT", bound=Enum)
EffectT = TypeVar("EffectT", bound=Enum)


class OutOfOrder(RuntimeError):
    """An event that cannot happen in this state: a mistake of the shell."""


class Role(Generic[StateT, EventT, EffectT]):
    """One side of one conversation, in ``state``."""

    def __init__(
        self, table: Mapping[tuple[StateT, EventT], tuple[StateT, tuple[EffectT, ...]]], start: StateT
    ) -> None:
        self._table = table
        self.state = start

    def step(self, event: EventT) -> tuple[EffectT, ...]:
        """Raises OutOfOrder."""
        try:
            self.state, effects = self._table[self.state, event]
        except KeyError:
            raise OutOfOrder(f"{event.value} while {self.state.value}") from None
        return effects
