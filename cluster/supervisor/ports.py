"""TCP ports before anything starts: given ones are checked, free ones are asked for."""

import contextlib
import errno
import os
import socket
from collections.abc import Sequence

from runtime.service import StartRefused


def check_free(host: str, ports: Sequence[int], flag: str) -> None:
    """Raises StartRefused, naming the flag and the first port that cannot be listened on."""
    for port in ports:
        if port > 65_535:
            raise StartRefused(f"{flag}: the last port would be {port}, beyond 65535.")
        try:
            _bind(host, port).close()
        except OSError as error:
            raise StartRefused(_sentence(host, port, flag, error)) from error


def free_ports(host: str, count: int, flag: str) -> list[int]:
    """``count`` different ports that nobody listens on now. Raises StartRefused (no such address)."""
    with contextlib.ExitStack() as stack:
        try:
            return [stack.enter_context(_bind(host, 0)).getsockname()[1] for _ in range(count)]
        except OSError as error:
            raise StartRefused(_sentence(host, 0, flag, error)) from error


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(1)  # with SO_REUSEADDR, some systems let two bind and refuse only the second listener
    except OSError:
        sock.close()
        raise
    return sock


def _sentence(host: str, port: int, flag: str, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"{flag}: port {port} on {host} is in use; choose another, or 0 for free ones."
    if error.errno == errno.EACCES:
        return f"{flag}: port {port} on {host} needs more rights than yours; choose one from 1024 up."
    return f"--host {host}: cannot listen there ({os.strerror(error.errno or 0)})."
