"""Which web pages may talk to this cluster, over HTTP and over the game socket alike."""

from urllib.parse import urlsplit

from runtime.mesh.api import Book
from world.limits import ORIGINS_KEPT

_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


def origin_of(url: str) -> str:
    """``https://a.example:8080/x`` -> ``https://a.example:8080``"""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}".lower()


class Origins:
    """Every gateway that is or was in the book, and those the operator names. A client without Origin is no web page:
    let in. The page that a gateway has served outlives it: it goes on at another one, under the origin of the dead.

    A gateway on a loopback address is accepted under each of the loopback's names.
    """

    def __init__(self, book: Book, public: tuple[str, ...], own: str) -> None:
        self._book = book
        self._fixed = frozenset(origin_of(url) for url in (*public, own))
        self._seen: dict[str, None] = {}  # origins of gateways, the one longest gone first; the oldest makes room
        book.on_change(self._look)
        self._look()

    def _look(self) -> None:
        for origin in map(origin_of, self.gateways()):
            self._seen.pop(origin, None)
            self._seen[origin] = None
        while len(self._seen) > ORIGINS_KEPT:
            del self._seen[next(iter(self._seen))]

    def gateways(self) -> list[str]:
        """Base URLs of all gateways."""
        return sorted(m.http for m in self._book.members("gateway") if m.http)

    def all(self) -> set[str]:
        self._look()
        return {name for origin in (*self._fixed, *self._seen) for name in _names(origin)}

    def allowed(self, origin: str) -> bool:
        return origin.lower() in self.all()


def _names(origin: str) -> list[str]:
    scheme, _, rest = origin.partition("://")
    host, colon, port = rest.rpartition(":")
    if not colon or host not in _LOOPBACK:
        return [origin]
    return [f"{scheme}://{name}:{port}" for name in _LOOPBACK]
