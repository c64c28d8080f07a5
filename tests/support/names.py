"""A name server for tests: one name with several addresses, as Docker's has it for a scaled service."""

import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

_A, _IN, _TTL_S = 1, 1, 1


def answer(query: bytes, name: str, addresses: Sequence[str]) -> bytes:
    """RFC 1035: the question as it came, an A record for each address; other names do not exist (NXDOMAIN)."""
    labels, at = [], 12
    while length := query[at]:
        labels.append(query[at + 1 : at + 1 + length].decode())
        at += 1 + length
    (kind,) = struct.unpack_from("!H", query, at + 1)
    known = ".".join(labels).lower() == name
    found = addresses if known and kind == _A else ()
    flags = 0x8180 if known else 0x8183
    head = query[:2] + struct.pack("!5H", flags, 1, len(found), 0, 0)
    records = b"".join(struct.pack("!3HIH", 0xC00C, _A, _IN, _TTL_S, 4) + socket.inet_aton(ip) for ip in found)
    return head + query[12 : at + 5] + records


@contextmanager
def name_server(name: str, addresses: Sequence[str]) -> Iterator[int]:
    """Its UDP port on 127.0.0.1. ``addresses`` may be changed while it serves."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(0.1)
        done = threading.Event()

        def serve() -> None:
            while not done.is_set():
                try:
                    query, asker = server.recvfrom(4_096)
                except TimeoutError:
                    continue
                server.sendto(answer(query, name, tuple(addresses)), asker)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield int(server.getsockname()[1])
        finally:
            done.set()
            thread.join()
