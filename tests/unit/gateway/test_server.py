"""What a listener does under a burst of connections, on the loop that gateways run on."""

import asyncio
import contextlib
import socket

from gateway.server import bind, many
from tests.support.aio import run
from world.limits import HTTP_ACCEPTS_PER_TURN

BURST = 4 * HTTP_ACCEPTS_PER_TURN


async def turns_until_accepted() -> int:
    """Turns of the loop until all connections of a burst are taken."""
    loop = asyncio.get_running_loop()
    taken = 0

    class Taken(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            nonlocal taken
            taken += 1

    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(bind("127.0.0.1", 0))
        servers = [await loop.create_server(Taken, sock=one, backlog=BURST) for one in many(listener)]
        for _ in range(BURST):
            stack.enter_context(socket.create_connection(listener.getsockname()))
        turns = 0
        while taken < BURST:
            turns += 1
            await asyncio.sleep(0)
        for server in servers:
            server.close()
    return turns


def test_a_burst_of_connections_is_taken_in_a_few_turns() -> None:
    assert run(turns_until_accepted(), uvloop=True) <= BURST // 4
