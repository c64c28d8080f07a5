"""The network between game servers: a TCP proxy before each one's two endpoints, which can cut, delay and heal.

::

    gs5 ──connects to what gs4 advertises──> [proxy] ──> gs4 listens
                                  │
                                  └─ whose socket is at the other end? /proc says: gs5. Bytes gs5 -> gs4 and gs4 -> gs5
                                     pass, wait or are delayed each by itself

A cut holds bytes back and loses none, as a network that drops packets does to TCP; new connections are taken and hang.
That TCP itself then repeats ever more rarely is not in it: ``tests/bench/bench_partition.py`` drops packets.
"""

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
CHUNK_BYTES = 64 * 1024
CHUNKS_IN_FLIGHT = 64  # per direction of a connection; then its sender feels it
_LOOK_S = 0.01
_START_S = 5.0


class Network:
    """``pids()``: node → pid now, of those whose traffic can be cut; others always pass. Has a thread of its own."""

    def __init__(self, pids: Callable[[], Mapping[str, int]]) -> None:
        self._pids = pids
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="network")
        self._servers: list[asyncio.Server] = []
        self._cuts: set[tuple[str, str]] = set()
        self._delays_s: dict[tuple[str, str], float] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.seen: set[tuple[str, str]] = set()  # (who connected, to whom)

    def __enter__(self) -> "Network":
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_START_S)

    def listen(self, node: str, target_port: int) -> int:
        """A new port that leads to ``target_port`` of ``node``."""
        return self._run(self._listen(node, target_port))

    def cut(self, source: str, target: str) -> None:
        """Nothing from ``source`` reaches ``target`` any more; the way back is another cut."""
        self._cuts.add((source, target))

    def delay(self, source: str, target: str, delay_s: float) -> None:
        self._delays_s[source, target] = delay_s

    def heal(self) -> None:
        self._cuts.clear()
        self._delays_s.clear()

    # -- on the thread
    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_START_S)

    async def _listen(self, node: str, target_port: int) -> int:
        server = await asyncio.start_server(
            lambda reader, writer: self._accepted(node, target_port, reader, writer), "127.0.0.1", 0
        )
        self._servers.append(server)
        port: int = server.sockets[0].getsockname()[1]
        return port

    async def _accepted(
        self, node: str, target_port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            peer = node_at(int(writer.get_extra_info("peername")[1]), self._pids())
            self.seen.add((peer, node))
            to_reader, to_writer = await asyncio.open_connection("127.0.0.1", target_port)
        except OSError:
            writer.close()
            return
        finally:
            self._tasks.discard(task)
        forward = self._loop.create_task(self._pump(reader, to_writer, (peer, node)))
        back = self._loop.create_task(self._pump(to_reader, writer, (node, peer)))
        for pump in (forward, back):
            self._tasks.add(pump)
            pump.add_done_callback(self._tasks.discard)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: tuple[str, str]) -> None:
        """One direction until its end, or that of the other side."""
        chunks: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(CHUNKS_IN_FLIGHT)

        async def fill() -> None:
            while data := await reader.read(CHUNK_BYTES):
                await chunks.put((self._loop.time(), data))
            await chunks.put((0.0, b""))

        filling = self._loop.create_task(fill())
        try:
            while True:
                came_s, data = await chunks.get()
                while way in self._cuts or self._loop.time() < came_s + self._delays_s.get(way, 0.0):  # noqa: ASYNC110
                    await asyncio.sleep(_LOOK_S)
                if not data:
                    return
                writer.write(data)
                await writer.drain()
        except OSError:
            return
        finally:
            filling.cancel()
            await asyncio.gather(filling, return_exceptions=True)
            writer.close()

    async def _close(self) -> None:
        for server in self._servers:
            server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def node_at(port: int, pids: Mapping[str, int]) -> str:
    """Whose socket is bound to this local TCP port; "": nobody's of these."""
    inode = _inode(port)
    wanted = f"socket:[{inode}]"
    for node, pid in pids.items():
        try:
            descriptors = os.listdir(f"/proc/{pid}/fd")
        except OSError:
            continue
        for descriptor in descriptors:
            try:
                if os.readlink(f"/proc/{pid}/fd/{descriptor}") == wanted:
                    return node
            except OSError:
                continue
    return ""


def _inode(port: int) -> str:
    """Of the established socket with this local port, from /proc/net/tcp; "" where there is none."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[1].rpartition(":")[2], 16) == port and fields[3] == "01":
            return fields[9]
    return ""
