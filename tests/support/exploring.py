"""What the models of ``world.handoff`` and ``world.trade`` share: all worlds reachable from one, a table's walk."""

from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Any, TypeVar

World = TypeVar("World")
State = TypeVar("State", bound=Enum)


def explore(
    first: World, moves: Callable[[World], Iterable[tuple[str, World]]], judge: Callable[[World, bool], str]
) -> int:
    """All worlds reachable from the first; their number. ``judge(world, last)``: what is wrong with one, "" for
    nothing; ``last``: no move leads on. AssertionError with the way to a bad one."""
    before: dict[World, tuple[str, World] | None] = {first: None}
    todo = [first]
    while todo:
        world = todo.pop()
        following = list(moves(world))
        problem = judge(world, not following)
        assert not problem, f"{problem}\n" + "\n".join(way(before, world))
        for name, after in following:
            if after not in before:
                before[after] = (name, world)
                todo.append(after)
    return len(before)


def way(before: Mapping[World, tuple[str, World] | None], world: World) -> list[str]:
    """The moves that led there, and what was so then."""
    names: list[str] = []
    at = world
    while (step := before[at]) is not None:
        names.append(step[0])
        at = step[1]
    return [*reversed(names), repr(world)]


def ends_and_names_each_state(
    table: Mapping[tuple[State, Any], tuple[State, Any]], starts: Iterable[State], ends: Iterable[State]
) -> None:
    """Each state of a table is reached from its starts, and only its ends have no way out. Raises AssertionError."""
    reached, todo = set(starts), list(starts)
    while todo:
        state = todo.pop()
        for (before, _), (after, _) in table.items():
            if before is state and after not in reached:
                reached.add(after)
                todo.append(after)
    assert {state for state, _ in table} | {after for after, _ in table.values()} == reached
    ways_out = {before for (before, _), (after, _) in table.items() if after is not before}
    assert reached - ways_out <= set(ends)
