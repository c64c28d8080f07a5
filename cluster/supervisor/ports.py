"""TCP ports before anything starts: given ones are checked, free ones are asked for."""

import errno
import os
import random
import socket
import time
from collections.abc import Sequence

from runtime.service import StartRefused
from world.limits import PORT_TRIES

FREE_PORTS = (12_000, 32_768)  # Linux hands out ports from 32768 on, others from 49152 on


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
    """``count`` different ports that nobody listens on now, below those that systems hand out by themselves: the
    cluster's other processes ask for such, and would take one before its owner starts. Raises StartRefused (no such
    address, none free)."""
    found: list[int] = []
    chance = random.Random(f"{os.getpid()} {time.monotonic_ns()}")
    for port in chance.sample(range(*FREE_PORTS), PORT_TRIES):
        if len(found) == count:
            return found
        try:
            _bind(host, port).close()
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise StartRefused(_sentence(host, 0, flag, error)) from error
        else:
            found.append(port)
    raise StartRefused(f"{flag}: no free ports on {host} from {FREE_PORTS[0]} to {FREE_PORTS[1] - 1}.")


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
