"""``projectk reset``: forget the world."""

import shutil
from typing import Annotated

import typer

from cluster import options as o
from cluster.supervisor.data import claim
from runtime.service import StartRefused
from runtime.settings import read_settings
from runtime.store.opening import SqliteUrl


def reset(
    data: o.Data = None,
    store: o.Store = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete the saved world (accounts, avatars, everything), the keys and the logs in the data folder. Asks first.

    Examples:

      projectk reset

      projectk reset --data /tmp/world --yes
    """
    settings = read_settings(data=data, store=store)
    if not isinstance(settings.store_url, SqliteUrl):
        raise StartRefused(
            f"The world is kept in {settings.store_url}: flush or delete that bucket with Couchbase's tools."
        )
    folder, file = settings.data, settings.store_url.path
    if not folder.exists():
        typer.echo(f"There is no world in {folder}.")
        return
    if not yes and not typer.confirm(f"Delete the world in {folder} for ever?"):
        raise typer.Exit(1)
    with claim(folder):
        for part in ("store", "keys", "logs"):
            shutil.rmtree(folder / part, ignore_errors=True)
        for beside in ("", "-wal", "-shm"):
            file.with_name(file.name + beside).unlink(missing_ok=True)
    typer.echo(f"The world in {folder} is gone; the next start makes a new one.")
