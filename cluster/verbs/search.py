"""``projectk search``: who holds an item, which players' names contain a text."""

import asyncio
from enum import StrEnum
from pathlib import Path
from typing import Annotated
from urllib.parse import urlencode

import apsw
import orjson
import typer
from rich.console import Console
from rich.table import Table

from cluster import options as o
from cluster.operators.api import Json
from cluster.operators.ask import cluster
from cluster.operators.found import CannotAsk
from cluster.verbs.stores import check_file
from runtime.service import StartRefused
from runtime.settings import Settings, read_settings
from runtime.store.api import StoreOpenError
from runtime.store.opening import CouchbaseUrl, read_credentials
from runtime.store.search import BadQuestion, Found, Question, SearchRefused, asked, view
from world.limits import SEARCH_DEFAULT_ROWS, SEARCH_MS, SEARCH_ROWS


class What(StrEnum):
    ITEM = "item"
    PLAYER = "player"


def search(
    what: Annotated[What, typer.Argument(help="What is searched for.")],
    word: Annotated[str, typer.Argument(help="An item's name, or a part of a player's name in any case.")],
    at_least: Annotated[int | None, typer.Option(help="Of the item: this many or more. \\[default: 1]")] = None,
    limit: Annotated[int, typer.Option(min=1, max=SEARCH_ROWS, help="How many are listed.")] = SEARCH_DEFAULT_ROWS,
    json: Annotated[bool, typer.Option("--json", help="One JSON document instead of a table.")] = False,
    offline: Annotated[
        bool, typer.Option("--offline", help="Read the store itself, not by way of a gateway: nothing need run.")
    ] = False,
    data: o.Data = None,
    store: o.Store = None,
    ops: o.OpsUrl = None,
    token_file: o.TokenFile = None,
) -> None:
    """Search what is saved: who holds an item (those with most first), or whose name contains a text.

    It reads documents as they are in the store, beside the game and never in its way, for at most 2 s; what was not
    looked at by then is said. Ends with 0, also where nothing is found, with 1 where nobody answers.

    Examples:

      projectk search item wood

      projectk search item wood --at-least 10 --limit 50

      projectk search player otter --json

      projectk search player otter --offline --data /srv/world
    """
    said = {what.value: word, "limit": str(limit)} | ({"at_least": str(at_least)} if at_least is not None else {})
    if offline:
        document = _offline(read_settings(data=data, store=store), said)
    else:
        with cluster(data, ops, token_file) as at:
            document = at.get(f"/v1/ops/search?{urlencode(said)}")
    if json:
        typer.echo(orjson.dumps(document).decode())
    else:
        _show(what, document, limit)


def _offline(settings: Settings, said: dict[str, str]) -> Json:
    try:
        question = asked(said)
    except BadQuestion as mistake:
        raise StartRefused(f"{str(mistake).capitalize()}.") from mistake
    url = settings.store_url
    try:
        if isinstance(url, CouchbaseUrl):
            found = asyncio.run(_by_query_service(url, question))
        else:
            check_file(url.path)
            found = _in_file(url.path, question)
    except StoreOpenError as error:
        raise StartRefused(str(error)) from error
    except (SearchRefused, apsw.Error) as error:
        raise CannotAsk(f"The store cannot be searched: {error}.") from error
    return view(question, found)


def _in_file(path: Path, question: Question) -> Found:
    from runtime.store.search_sqlite import open_for_search, search  # not needed by other verbs

    connection = open_for_search(path)
    try:
        return search(connection, question, SEARCH_MS)
    finally:
        connection.close(True)


async def _by_query_service(url: CouchbaseUrl, question: Question) -> Found:
    from runtime.store.search_n1ql import N1qlSearch

    service = N1qlSearch(url, read_credentials())
    try:
        return await service.find(question)
    finally:
        await service.close()


def _show(what: What, document: Json, limit: int) -> None:
    item = what is What.ITEM
    names = ("count", "name", "kind", "entity", "server") if item else ("name", "entity", "server")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in names:
        table.add_column(name, justify="right" if name == "count" else "left", overflow="fold")
    for hit in document["hits"]:
        table.add_row(*(str(hit[name]) if hit[name] not in (None, "") else "-" for name in names))
    console = Console(highlight=False, markup=False)
    if document["hits"]:
        console.print(table)
    else:
        console.print("Nobody was found." if document["cut"] else "Nobody.")
    if document["more"]:
        console.print(f"There are more than these {limit}: --limit shows up to {SEARCH_ROWS:,}.")
    if document["cut"]:
        console.print(f"Cut after {SEARCH_MS / 1_000:g} s: not everything was looked at, and there may be others.")
