"""The client's address: the peer's, unless the peer is a balancer of ours."""

import pytest
from starlette.requests import Request

from gateway.proxies import TrustedProxies

BALANCERS = ("10.78.0.2/32", "10.79.0.0/16", "fd00::/8")


def client(peer: str, *headers: str, trusted: tuple[str, ...] = BALANCERS) -> str:
    lines = [(b"x-forwarded-for", line.encode()) for line in headers]
    return TrustedProxies(trusted).client(Request({"type": "http", "client": (peer, 1), "headers": lines}))


@pytest.mark.parametrize(
    ("peer", "headers", "expected"),
    [
        ("192.0.2.1", (), "192.0.2.1"),
        ("192.0.2.1", ("198.51.100.7",), "192.0.2.1"),  # anybody can send the header
        ("10.78.0.3", ("198.51.100.7",), "10.78.0.3"),  # a neighbour of the balancer is not the balancer
        ("10.78.0.2", ("198.51.100.7",), "198.51.100.7"),
        ("10.78.0.2", ("1.1.1.1, 198.51.100.7",), "198.51.100.7"),  # the client's own claim stands to the left
        ("10.78.0.2", ("1.1.1.1", "198.51.100.7"), "198.51.100.7"),
        ("10.78.0.2", ("1.1.1.1, 198.51.100.7, 10.79.3.3",), "198.51.100.7"),  # a balancer behind a balancer
        ("10.78.0.2", ("10.79.3.3",), "10.78.0.2"),
        ("10.78.0.2", (), "10.78.0.2"),
        ("10.78.0.2", ("198.51.100.7, unknown",), "10.78.0.2"),
        ("10.78.0.2", ("198.51.100.7,",), "10.78.0.2"),
        ("10.78.0.2", ("2001:db8::1",), "2001:db8::1"),
        ("::ffff:10.78.0.2", ("198.51.100.7",), "198.51.100.7"),
        ("fd00::1", ("198.51.100.7",), "198.51.100.7"),
    ],
)
def test_the_header_is_believed_only_from_balancers(peer: str, headers: tuple[str, ...], expected: str) -> None:
    assert client(peer, *headers) == expected


def test_nobody_is_trusted_unless_named() -> None:
    assert client("127.0.0.1", "198.51.100.7", trusted=()) == "127.0.0.1"
