"""What a rule is given: who acts, how to find others, what to tell."""

from typing import Any, NoReturn

from world.content import Content, content
from world.handle import Handle, Runtime, Scope
from world.messages import Actor, Json, Key
from world.results import Refusal


class Context:
    """One command's surroundings. ``actor``: the avatar's own handle; ``key``: the command's."""

    __slots__ = ("_scope", "actor", "key", "runtime")

    def __init__(self, runtime: Runtime, avatar: int, key: Key) -> None:
        self.runtime = runtime
        self.key = key
        self._scope = Scope(runtime, key)
        self.actor = Handle(avatar, self._scope, own=True)

    @property
    def content(self) -> Content:
        return content()

    @property
    def facts(self) -> Actor:
        """The actor's position, reach and name, as of now."""
        return self.runtime.actor(self.actor.id)

    def find(self, entity: int) -> Handle:
        """Raises Refusal ``no_such_target``."""
        handle = Handle(entity, self._scope)
        if not self.runtime.knows(entity):
            self.refuse("no_such_target", f"{entity} is not to be seen")
        return handle

    def near(self, radius: float, kind: int | None = None) -> list[Handle]:
        """Handles within ``radius`` metres of the actor, nearest first."""
        at = self.facts
        return [Handle(view.entity, self._scope) for view in self.runtime.near(at.x, at.y, radius, kind)]

    def area_event(self, body: Json) -> None:
        """Tell all who see the actor."""
        self.runtime.area_event(self.actor.id, body)

    async def bargain(self, trade: str, act: str, **args: Any) -> Json:
        """A deed of the actor's in a negotiation. Raises Refusal."""
        return await self.runtime.bargain(self.actor.id, trade, act, args, self.key)

    def bargain_ended(self, trade: str, code: str, commit: str) -> None:
        """Tell who keeps the negotiation how its commit ended, "" for well; not waited for."""
        self.runtime.bargain_ended(self.actor.id, trade, code, commit)

    def refuse(self, code: str, detail: str = "") -> NoReturn:
        raise Refusal(code, detail)
