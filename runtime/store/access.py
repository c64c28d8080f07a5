"""How a member of the mesh reaches the store its settings name: by the store process or, for Couchbase, by itself."""

from runtime.mesh.api import Mesh
from runtime.settings import Settings
from runtime.store.api import Store
from runtime.store.client import StoreClient
from runtime.store.opening import SqliteUrl, open_store


async def reach_store(settings: Settings, mesh: Mesh) -> Store:
    """The caller closes it. The store process may still be starting: its calls say so. Raises StoreOpenError where
    Couchbase cannot be used."""
    if isinstance(settings.store_url, SqliteUrl):
        return StoreClient(mesh)
    return await open_store(settings.store_url)
