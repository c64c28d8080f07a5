"""Which search fits the store that the settings name; only gateways and the command line ask."""

from runtime.settings import Settings
from runtime.store.client import Link
from runtime.store.opening import SqliteUrl, read_credentials
from runtime.store.search import MeshSearch, Search


def open_search(settings: Settings, mesh: Link) -> Search:
    """Raises StoreOpenError where credentials are missing."""
    url = settings.store_url
    if isinstance(url, SqliteUrl):
        return MeshSearch(mesh)
    from runtime.store.search_n1ql import N1qlSearch  # pulls in an HTTP client that nobody else here needs

    return N1qlSearch(url, read_credentials())
