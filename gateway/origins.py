"""Which web pages may talk to this cluster, over HTTP and over the game socket alike."""

from urllib.parse import urlsplit

from runtime.mesh.api import Book

_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


def origin_of(url: str) -> str:
    """``https://a.example:8080/x`` -> ``https://a.example:8080``"""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}".lower()


class Origins:
    """Every gateway in the book, and those the operator names. A client without Origin is no web page: let in.

    A gateway on a loopback address is accepted under each of the loopback's names.
    """

    def __init__(self, book: Book, public: tuple[str, ...], own: str) -> None:
        self._book = book
        self._fixed = frozenset(origin_of(url) for url in (*public, own))

    def gateways(self) -> list[str]:
        """Base URLs of all gateways."""
        return sorted(m.http for m in self._book.members("gateway") if m.http)

    def all(self) -> set[str]:
        known = self._fixed | {origin_of(url) for url in self.gateways()}
        return {name for origin in known for name in _names(origin)}

    def allowed(self, origin: str) -> bool:
        return origin.lower() in self.all()


def _names(origin: str) -> list[str]:
    scheme, _, rest = origin.partition("://")
    host, colon, port = rest.rpartition(":")
    if not colon or host not in _LOOPBACK:
        return [origin]
    return [f"{scheme}://{name}:{port}" for name in _LOOPBACK]
