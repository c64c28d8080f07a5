"""Searching the store, for operators: who holds an item, which players' names contain a text.

::

    projectk search ──HTTP──> gateway ──StoreSearch──> store process: SQL over the file (``search_sqlite``)
                                 └───────HTTP────────> Couchbase's query service: N1QL (``search_n1ql``)

It reads documents as they are committed. The live path knows keys and never searches: no game server's code and no
rule can import this (``tests/test_shape.py``), the store's process refuses whoever is no gateway, and what searches
has a connection of its own, a bound in time and one in rows.
"""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from runtime.mesh.api import MeshError, Refused
from runtime.store.client import Link
from world.entity import table
from world.ids import NodeId, kind_of
from world.limits import (
    SEARCH_CALL_MS,
    SEARCH_DEFAULT_ROWS,
    SEARCH_ROWS,
    SEARCH_WORD_CHARACTERS,
    STORE_COUNTER_STEPS,
)
from world.messages import Json, StoreFound, StoreSearch

_DIGITS = 16
ITEM, PLAYER = "item", "player"
KINDS_OF_UNITS = ("avatar", "region")  # whose documents hold entities


class Question(NamedTuple):
    """``what`` ITEM: entities that hold at least ``at_least`` of item ``word``, those with most first; PLAYER: avatars
    whose name contains ``word`` in any case, by name. At most ``limit`` of them."""

    what: str
    word: str
    at_least: int = 1
    limit: int = SEARCH_DEFAULT_ROWS


class Hit(NamedTuple):
    """``server``: who owns the unit, "" nobody; ``held``: of the item."""

    unit: str
    entity: int
    name: str
    server: str
    held: int = 0


class Found(NamedTuple):
    """``more``: there are more than ``limit``; ``cut``: its time was over, there may be others, with more."""

    hits: list[Hit]
    more: bool = False
    cut: bool = False


class SearchRefused(Exception):
    """``code``: too_many_searches | search_unavailable; the text is for the operator."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class Search(Protocol):
    async def find(self, question: Question) -> Found:
        """Raises SearchRefused."""
        ...

    async def close(self) -> None: ...


class BadQuestion(ValueError):
    """What is wrong with an operator's words."""


def asked(said: Mapping[str, str]) -> Question:
    """From an operator's words, as the query of the route says them. Raises BadQuestion."""
    kinds = [what for what in (ITEM, PLAYER) if what in said]
    if len(kinds) != 1:
        raise BadQuestion("the query names one item, or a part of one player's name")
    (what,) = kinds
    word = said[what]
    if not word or len(word) > SEARCH_WORD_CHARACTERS or not word.isprintable():
        raise BadQuestion(f"{what} is 1 to {SEARCH_WORD_CHARACTERS} printable characters")
    if what == ITEM and not word.replace("_", "").isalnum():
        raise BadQuestion("an item's name is letters, digits and _")
    if what == PLAYER and "at_least" in said:
        raise BadQuestion("at_least goes with an item")
    limit = _number(said, "limit", SEARCH_DEFAULT_ROWS, SEARCH_ROWS)
    return Question(what, word, _number(said, "at_least", 1, STORE_COUNTER_STEPS), limit)


def _number(said: Mapping[str, str], name: str, default: int, most: int) -> int:
    text = said.get(name, str(default))
    if not (text.isascii() and text.isdecimal() and len(text) <= _DIGITS and 1 <= int(text) <= most):
        raise BadQuestion(f"{name} is a number from 1 to {most}")
    return int(text)


def view(question: Question, found: Found) -> Json:
    """The answer as operators read it."""
    return {"hits": [_hit(question, hit) for hit in found.hits], "more": found.more, "cut": found.cut}


def _hit(question: Question, hit: Hit) -> Json:
    """One hit as the answer tells it; ``server`` null: nobody owns the unit now."""
    kind = table().get(kind_of(hit.entity))
    told: Json = {
        "entity": hit.entity,
        "kind": kind.name if kind is not None else "",
        "name": hit.name,
        "unit": hit.unit,
        "server": hit.server or None,
    }
    return told | {"count": hit.held} if question.what == ITEM else told


class MeshSearch:
    """Asks the store's process."""

    def __init__(self, mesh: Link) -> None:
        self._mesh = mesh

    async def find(self, question: Question) -> Found:
        stores = [m.id for m in self._mesh.book.members("store") if m.status != "dead"]
        if not stores:
            raise SearchRefused("search_unavailable", "no store is known")
        try:
            answer = await self._mesh.call(NodeId(stores[0]), StoreSearch(*question), deadline_ms=SEARCH_CALL_MS)
        except Refused as refusal:
            known = refusal.code == "too_many_searches"
            code = refusal.code if known else "search_unavailable"
            raise SearchRefused(code, refusal.detail or f"the store answers {refusal.code}") from refusal
        except MeshError as error:
            raise SearchRefused("search_unavailable", "the store does not answer") from error
        if not isinstance(answer, StoreFound):
            raise SearchRefused("search_unavailable", f"the store answers {type(answer).__name__}")
        return Found([Hit(*row) for row in answer.rows], answer.more, answer.cut)

    async def close(self) -> None: ...
