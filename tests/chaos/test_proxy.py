"""The network that tests put between game servers cuts, delays and heals, each direction by itself."""

import os
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.chaos.proxy import Network, node_at
from tests.support.processes import wait_until

SHORT_S = 0.3


@pytest.fixture
def network() -> Iterator[Network]:
    with Network(lambda: {"gs11": os.getpid()}) as made:
        yield made


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a server that answers with what it gets."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    def answer(connection: socket.socket) -> None:
        while data := connection.recv(4096):
            connection.sendall(data)

    threading.Thread(target=serve, daemon=True).start()
    yield int(listener.getsockname()[1])
    listener.close()


def connect(network: Network, echo: int) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", network.listen("gs12", echo)), timeout=2)
    client.sendall(b"one")
    assert client.recv(16) == b"one"
    assert network.seen == {("gs11", "gs12")}
    return client


def silent(client: socket.socket) -> bool:
    client.settimeout(SHORT_S)
    try:
        return client.recv(16) == b""
    except TimeoutError:
        return True
    finally:
        client.settimeout(2)


@pytest.mark.parametrize("way", [("gs11", "gs12"), ("gs12", "gs11")])
def test_a_cut_holds_back_and_healing_delivers(network: Network, echo: int, way: tuple[str, str]) -> None:
    with connect(network, echo) as client:
        network.cut(*way)
        client.sendall(b"two")
        assert silent(client)
        network.heal()
        assert client.recv(16) == b"two"


def test_a_cut_of_others_passes(network: Network, echo: int) -> None:
    with connect(network, echo) as client:
        network.cut("gs11", "gs13")
        client.sendall(b"two")
        assert client.recv(16) == b"two"


def test_a_delay_delays(network: Network, echo: int) -> None:
    with connect(network, echo) as client:
        network.delay("gs11", "gs12", SHORT_S)
        began_s = time.monotonic()
        client.sendall(b"two")
        assert client.recv(16) == b"two"
        assert time.monotonic() - began_s >= SHORT_S


def test_the_end_of_one_side_reaches_the_other(network: Network, echo: int) -> None:
    with connect(network, echo) as client:
        client.shutdown(socket.SHUT_WR)
        assert client.recv(16) == b""


def test_whose_socket_it_is(echo: int) -> None:
    with socket.create_connection(("127.0.0.1", echo)) as client:
        port = client.getsockname()[1]
        wait_until(lambda: node_at(port, {"gs1": os.getpid()}) == "gs1", 2, "the socket is found")
        assert node_at(port, {"gs1": 1 << 22}) == ""
        assert node_at(1, {"gs1": os.getpid()}) == ""
