"""Searching the world's documents for an operator: who holds an item, whose name contains a text."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.ops.problems import problem
from gateway.ops.requests import query, reply
from runtime.store.search import ITEM, PLAYER, BadQuestion, Search, SearchRefused, asked, view


class Searching:
    """The route ``/v1/ops/search``."""

    def __init__(self, search: Search) -> None:
        self._search = search

    def routes(self) -> list[Route]:
        return [Route("/v1/ops/search", self.find)]

    async def find(self, request: Request) -> Response:
        try:
            question = asked(query(request, ITEM, PLAYER, "at_least", "limit"))
            found = await self._search.find(question)
        except BadQuestion as mistake:
            raise problem("bad_request", str(mistake)) from mistake
        except SearchRefused as refusal:
            raise problem(refusal.code, str(refusal), retry_after_s=1) from refusal
        return reply(view(question, found))
