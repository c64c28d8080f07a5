"""The same story on one, two and three servers, actor and target together and apart: the same outcome, word by word."""

import pytest

from tests.support.aio import run
from tests.support.memory_cluster import MemoryCluster
from world.audit import audit
from world.ids import avatar_unit
from world.messages import Json
from world.results import Outcome

STORY = """
ann says '  hello\\nthere '                -> ok {}
ann says '   '                            -> empty_text
ann says 'x' * 201                        -> too_long
ann gathers tree from 30 m                -> too_far
ann gathers tree                          -> ok {'items': {'wood': 1}}
ann gathers tree, the same number again   -> ok {'items': {'wood': 1}}
ann gathers rock under that number        -> key_reused
bob gathers tree                          -> ok {'items': {'wood': 1}}
bob gathers tree                          -> ok {'items': {'wood': 1}}
ann looks at tree                         -> wood 2, fresh
ann gathers tree                          -> ok {'items': {'wood': 1}}
bob gathers tree                          -> ok {'items': {'wood': 1}}
ann gathers tree                          -> depleted
bob gathers rock                          -> ok {'items': {'stone': 1}}
ann gathers bush                          -> ok {'items': {'berries': 1}}
ann gathers bob                           -> not_gatherable
ann gathers nothing there                 -> no_such_target
ann gathers an id of no kind              -> no_such_target
ann looks at bob                          -> name bob
ann asks inventory                        -> ok {'items': {'wood': 2, 'berries': 1}}
bob asks inventory                        -> ok {'items': {'wood': 3, 'stone': 1}}
ann under a settled number                -> settled
ann dances                                -> unknown_command
ann gathers without a target              -> bad_arguments
ann gathers with an unknown field         -> bad_arguments
heard: ann: hello there; gather wood x5; gather stone x1; gather berries x1
"""

PLACES = {
    "one server": (1, (0, 0, 0)),
    "two servers, ann with the tree": (2, (0, 0, 1)),
    "two servers, both without the tree": (2, (0, 1, 1)),
    "three servers": (3, (0, 1, 2)),
}


class Teller:
    """Acts the story and writes down what came of it."""

    def __init__(self, servers: int, places: tuple[int, ...]) -> None:
        self.cluster = MemoryCluster(servers, places, ("ann", "bob"))
        self.numbers = {"ann": 0, "bob": 0}
        self.lines: list[str] = []
        nodes = self.cluster.unit(self.cluster.region).entities.values()
        self.nodes = {kind: next(n for n in nodes if n.TABLE.name == kind) for kind in ("tree", "rock", "bush")}

    async def act(self, line: str, name: str, op: str, args: Json, *, number: int | None = None) -> Outcome:
        if number is None:
            self.numbers[name] += 1
        outcome = await self.cluster.command(name, number or self.numbers[name], op, args)
        self.tell(line, f"ok {outcome.value}" if outcome.ok else outcome.code)
        return outcome

    def tell(self, line: str, outcome: str) -> None:
        self.lines.append(f"{line:<41} -> {outcome}")

    async def gather(self, name: str, kind: str) -> None:
        node = self.nodes[kind]
        self.cluster.move(name, node.x + 2, node.y - 2)
        await self.act(f"{name} gathers {kind}", name, "gather", {"target": node.id})

    async def look(self, name: str, what: str, target: int, field: str) -> None:
        self.numbers[name] += 1
        value = (await self.cluster.command(name, self.numbers[name], "look", {"target": target})).value
        seen = f"{field} {value['fields'][field]}"
        self.tell(f"{name} looks at {what}", f"{seen}, fresh" if field == "wood" and not value["stale"] else seen)

    async def story(self) -> None:
        await self._speech()
        await self._first_wood()
        await self._the_rest()
        await self._mistakes()
        gathered = [e["item"] for e in self.cluster.heard if e["kind"] == "gather"]
        spoken = [f"{e['name']}: {e['text']}" for e in self.cluster.heard if e["kind"] == "say"]
        counts = [f"gather {item} x{gathered.count(item)}" for item in ("wood", "stone", "berries")]
        self.lines.append("heard: " + "; ".join(spoken + counts))

    async def _speech(self) -> None:
        await self.act("ann says '  hello\\nthere '", "ann", "say", {"text": "  hello\nthere "})
        await self.act("ann says '   '", "ann", "say", {"text": "   "})
        await self.act("ann says 'x' * 201", "ann", "say", {"text": "x" * 201})

    async def _first_wood(self) -> None:
        tree, rock = self.nodes["tree"], self.nodes["rock"]
        self.cluster.move("ann", tree.x + 30, tree.y)
        await self.act("ann gathers tree from 30 m", "ann", "gather", {"target": tree.id})
        await self.gather("ann", "tree")
        n = self.numbers["ann"]
        await self.act("ann gathers tree, the same number again", "ann", "gather", {"target": tree.id}, number=n)
        await self.act("ann gathers rock under that number", "ann", "gather", {"target": rock.id}, number=n)

    async def _the_rest(self) -> None:
        await self.gather("bob", "tree")
        await self.gather("bob", "tree")
        await self.look("ann", "tree", self.nodes["tree"].id, "wood")
        await self.gather("ann", "tree")
        await self.gather("bob", "tree")
        await self.gather("ann", "tree")
        await self.gather("bob", "rock")
        await self.gather("ann", "bush")

    async def _mistakes(self) -> None:
        bob = self.cluster.avatars["bob"]
        await self.act("ann gathers bob", "ann", "gather", {"target": bob})
        await self.act("ann gathers nothing there", "ann", "gather", {"target": self.nodes["tree"].id ^ 0x3FF})
        await self.act("ann gathers an id of no kind", "ann", "gather", {"target": 30 << 48})
        self.cluster.move("bob", self.nodes["bush"].x, self.nodes["bush"].y)
        await self.look("ann", "bob", bob, "name")
        await self.act("ann asks inventory", "ann", "inventory", {})
        await self.act("bob asks inventory", "bob", "inventory", {})
        ann = self.cluster.unit(avatar_unit(self.cluster.avatars["ann"]))
        ann.results.settle(ann.key, 1, 3)
        await self.act("ann under a settled number", "ann", "inventory", {}, number=2)
        await self.act("ann dances", "ann", "dance", {})
        await self.act("ann gathers without a target", "ann", "gather", {})
        await self.act("ann gathers with an unknown field", "ann", "gather", {"target": 1, "force": True})


@pytest.mark.parametrize("case", PLACES)
def test_the_same_story_anywhere(case: str) -> None:
    teller = Teller(*PLACES[case])
    run(teller.story())
    assert "\n".join(teller.lines) == STORY.strip()


@pytest.mark.parametrize("case", PLACES)
def test_items_are_conserved_in_it(case: str) -> None:
    teller = Teller(*PLACES[case])
    run(teller.story())
    documents = {}
    for server in teller.cluster.servers:
        for key, unit in server.units.items():
            unit.begin_write()
            documents[key] = unit.document(server.name, 1, "end")
    assert audit(documents) == []
