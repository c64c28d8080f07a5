"""``projectk init-couchbase``: make of some Couchbase nodes the cluster that a world is kept in."""

import ssl
from typing import Annotated

import httpx
import typer

from cluster import options as o
from cluster.couchbase.rest import ManagementApi
from cluster.couchbase.setup import Setup, Wanted
from runtime.service import StartRefused
from runtime.settings import Settings, SettingsError, read_settings
from runtime.store.api import StoreOpenError
from runtime.store.opening import CouchbaseUrl, Credentials, read_admin_credentials, read_credentials


def init_couchbase(
    store: o.Store = None,
    couchbase_memory_mb: o.CouchbaseMemory = None,
    couchbase_index_memory_mb: o.CouchbaseIndexMemory = None,
    couchbase_replicas: o.CouchbaseReplicas = None,
    couchbase_failover_s: o.CouchbaseFailover = None,
    management_port: Annotated[
        int, typer.Option(min=0, max=65_535, help="Port of the nodes' management; 0: 8091, with couchbases:// 18091.")
    ] = 0,
) -> None:
    """Set up the Couchbase cluster that --store names: its nodes, auto-failover, the bucket, the world's user.

    Safe to repeat, and to run again where it was cut short: it looks at what is there and does what is missing. To add
    a node, name it in --store too. It never fails over, ejects or gives back a node, and empties no bucket. Nodes are
    named with a dot in their names, as Couchbase wants it. Credentials come from the environment or from files:
    PROJECTK_COUCHBASE_ADMIN_USER and PROJECTK_COUCHBASE_ADMIN_PASSWORD for the administrator, PROJECTK_STORE_USER and
    PROJECTK_STORE_PASSWORD for the user that the world's processes come as; each also with _FILE.

    Ends with 0 when the bucket is served by every node, with 1 where something failed, with 2 for a mistake in the
    command.

    Examples:

      projectk init-couchbase --store couchbase://cb1.lan,cb2.lan,cb3.lan/projectk

      projectk init-couchbase --store couchbase://cb1.lan,cb2.lan,cb3.lan/projectk --couchbase-memory-mb 8192
    """
    flags = {name: value for name, value in locals().items() if name != "management_port"}
    settings = read_settings(**flags)
    url = settings.store_url
    if not isinstance(url, CouchbaseUrl):
        raise SettingsError("--store: name the nodes and the bucket, as couchbase://host,host,host/bucket.")
    try:
        admin, user = read_admin_credentials(), read_credentials()
    except StoreOpenError as error:
        raise StartRefused(str(error)) from error
    with httpx.Client(verify=_trust(url)) as http:
        api = ManagementApi(http, admin, tls=url.tls, port=management_port)
        Setup(_wanted(settings, url, user), api, typer.echo).run()


def _wanted(settings: Settings, url: CouchbaseUrl, user: Credentials) -> Wanted:
    nodes = [host.partition(":")[0] for host in url.hosts]  # a port there is the one of the data service
    short = next((node for node in nodes if "." not in node), None)
    if short is not None:
        raise SettingsError(f"--store: Couchbase takes no node name without a dot, like {short!r}.")
    if settings.couchbase_replicas >= len(nodes):
        raise SettingsError(
            f"--couchbase-replicas: {settings.couchbase_replicas} replicas need {settings.couchbase_replicas + 1} "
            f"nodes, and --store names {len(nodes)}."
        )
    return Wanted(
        nodes,
        url.bucket,
        user,
        settings.couchbase_replicas,
        settings.couchbase_memory_mb,
        settings.couchbase_index_memory_mb,
        settings.couchbase_failover_s,
    )


def _trust(url: CouchbaseUrl) -> ssl.SSLContext | bool:
    return ssl.create_default_context(cafile=str(url.certificate)) if url.certificate is not None else True
