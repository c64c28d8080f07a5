"""All clients of one gateway, and what the mesh has to say to them."""

import asyncio
from collections.abc import Callable, Sequence

from gateway import closing, server_messages
from gateway.client import Client, Socket
from gateway.closing import Closing
from gateway.counters import Counters
from gateway.fanout import Fanout, Watcher
from gateway.keys import Keys
from gateway.moves import MoveOutbox
from gateway.noted import NoteRing
from gateway.silence import SilentServers
from runtime.mesh.api import Mesh, MeshError, Sender
from runtime.service import Service
from world.clock import Clock
from world.frames import BadFrame
from world.ids import NodeId
from world.limits import (
    CLIENTS_PER_GATEWAY,
    GATEWAY_DRAIN_CLIENTS_PER_S,
    GATEWAY_DRAIN_NOTICE_MS,
    GATEWAY_DRAIN_SPREAD_MS,
    GATEWAY_FLUSH_MS,
    JOIN_RETRY_MS,
    MIRROR_REFRESHES_IN_FLIGHT,
    SESSION_SWEEP_MS,
)
from world.messages import (
    AskSnapshot,
    CellSnapshot,
    Detach,
    Events,
    MoveAnswers,
    MoveBatch,
    Noted,
    SessionEnded,
    Views,
)


class Gateway:
    """Built by ``app.build``: knows the mesh, not how sockets are made."""

    def __init__(self, service: Service, mesh: Mesh) -> None:
        self.service = service
        self.node_id = service.node_id
        self.clock: Clock = service.clock
        self.rng = service.rng
        self.mesh = mesh
        self.counters = Counters(service.metrics)
        self.keys = Keys(mesh, service.clock)
        self.moves = MoveOutbox(self._send_moves)
        self.fanout = Fanout(service.clock, lambda cells: self.want_cells(cells), self._too_slow)
        self.noted = NoteRing()
        self.draining = False
        self.want_cells: Callable[[set[int]], None] = lambda cells: None  # set by the composition root
        self._clients: dict[Watcher, Client] = {}
        self._sessions: dict[tuple[int, int], Client] = {}  # (avatar, session)
        self._watched: dict[NodeId, int] = {}  # game servers' generations last seen in the book
        self._silent = SilentServers(mesh.book, service.clock)

    def serve(self) -> None:
        """Take part in the mesh and start the loops."""
        self.mesh.serve(Events, self._events)
        self.mesh.serve(Views, self._views)
        self.mesh.serve(MoveAnswers, self._move_answers)
        self.mesh.serve(SessionEnded, self._session_ended)
        self.mesh.serve(Noted, self.noted.hear)
        self.mesh.book.on_change(self._book_changed)
        self.mesh.book.on_dead(self._server_dead)
        self._book_changed()
        self.service.spawn(self._flush_loop(), "flush", loop=True)
        self.service.spawn(self._sweep_loop(), "sweep", loop=True)
        self.service.spawn(self._refresh_loop(), "mirror-refresh", loop=True)

    # -- clients -------------------------------------------------------------------------------------------------------
    def __len__(self) -> int:
        return len(self._clients)

    def clients(self) -> list[Client]:
        return list(self._clients.values())

    def connect(self, socket: Socket) -> Client:
        """A socket has opened; it may be closed at once."""
        client = Client(self, socket)
        refusal = self._refusal()
        self._clients[client.watcher] = client
        client.opened()
        if refusal is not None:
            client.close(refusal)
        return client

    def _refusal(self) -> Closing | None:
        if self.draining:
            return closing.RESTARTING
        return closing.FULL if len(self._clients) >= CLIENTS_PER_GATEWAY else None

    def register(self, client: Client) -> None:
        """The client has its session. An older connection of the same session is a socket the client has given up."""
        key = (client.session.avatar, client.session.session)
        other = self._sessions.get(key)
        self._sessions[key] = client
        if other is not None and other is not client:
            newer = other if other.session.connection >= client.session.connection else client
            self._sessions[key] = newer
            (client if newer is other else other).close(closing.REPLACED)

    def forget(self, client: Client) -> None:
        self._clients.pop(client.watcher, None)
        key = (client.session.avatar, client.session.session)
        if self._sessions.get(key) is client:
            del self._sessions[key]
        self.fanout.leave(client.watcher)

    def any_server(self) -> str:
        """A game server to ask where an avatar is; "" where none is known."""
        book = self.mesh.book
        ready = [m.id for m in book.members("gameserver") if m.status == "ready"]
        alive = [node for node in ready if not book.suspected(NodeId(node))]
        return self.rng.choice(sorted(alive or ready)) if ready else ""

    def ready(self) -> bool:
        """Whether a newcomer could play here."""
        return not self.draining and all(self._answers(role) for role in ("gameserver", "login"))

    def _answers(self, role: str) -> bool:
        book = self.mesh.book
        return any(m.status == "ready" and not book.suspected(NodeId(m.id)) for m in book.members(role))

    async def drain(self) -> int:
        """Send everybody elsewhere, each at a moment of its own, so that the other gateways are not run down; how many
        they were. A client may go by itself before its moment; newcomers are refused meanwhile."""
        self.draining = True
        clients = self.clients()
        await self.send_away(clients, min(GATEWAY_DRAIN_SPREAD_MS, 1_000 * len(clients) / GATEWAY_DRAIN_CLIENTS_PER_S))
        return len(clients)

    async def send_away(self, clients: Sequence[Client], spread_ms: float) -> None:
        """Each at a moment of its own within ``spread_ms``, which it is told and until which it is served."""
        moments_ms = sorted(GATEWAY_DRAIN_NOTICE_MS + self.rng.uniform(0, spread_ms) for _ in clients)
        for client, moment_ms in zip(clients, moments_ms, strict=True):
            client.say(server_messages.reconnect(round(moment_ms)))
        began_ms = self.clock.monotonic_ms()
        for client, moment_ms in zip(clients, moments_ms, strict=True):
            await asyncio.sleep(max(0.0, began_ms + moment_ms - self.clock.monotonic_ms()) / 1_000)
            client.close(closing.RESTARTING)

    def close_all(self) -> None:
        """Send everybody who is left elsewhere, at once: this gateway stops."""
        self.draining = True
        for client in list(self._clients.values()):
            client.say(server_messages.reconnect(0))
            client.close(closing.RESTARTING)

    def _too_slow(self, watcher: Watcher) -> None:
        client = self._clients.get(watcher)
        if client is not None:
            client.close(closing.TOO_SLOW)

    # -- from the mesh -------------------------------------------------------------------------------------------------
    def _events(self, _sender: Sender, message: Events) -> None:
        client = self._sessions.get((message.avatar, message.session))
        if client is not None:
            client.run(client.session.owner_events(message))

    def _views(self, sender: Sender, message: Views) -> None:
        """A view for a client that is not here any more is answered by its close, which was lost or went astray."""
        connections = message.connections or [0] * len(message.rows)  # a server of an older release does not say
        for (avatar, session, epoch, x, y, radius), connection in zip(message.rows, connections, strict=False):
            client = self._sessions.get((avatar, session))
            if client is not None:
                client.run(client.session.view(epoch, x, y, radius))
            elif connection:
                self.mesh.send(sender.node, Detach(avatar, session, connection))

    def _move_answers(self, sender: Sender, message: MoveAnswers) -> None:
        for avatar, session, connection, code, server, _generation, epoch in message.rows:
            client = self._sessions.get((avatar, session))
            if client is not None:
                client.run(client.session.move_refused(connection, code, server, epoch, sender.node))

    def _session_ended(self, _sender: Sender, message: SessionEnded) -> None:
        client = self._sessions.get((message.avatar, message.session))
        if client is not None:
            client.run(client.session.ended(message.connection, message.code))

    def _book_changed(self) -> None:
        """A newer generation of a game server is proof that the older one is gone."""
        for member in self.mesh.book.members("gameserver"):
            node = NodeId(member.id)
            known = self._watched.get(node, 0)
            self._watched[node] = max(known, member.generation)
            if 0 < known < member.generation:
                self._server_dead(node, known)

    def _server_dead(self, node: NodeId, generation: int) -> None:
        """Dead, or silent for so long that its players are told: they are attached anew, there or elsewhere."""
        for client in list(self._sessions.values()):
            client.run(client.session.server_lost(node, generation))

    def _send_moves(self, server: str, batch: MoveBatch) -> bool:
        return self.mesh.send(NodeId(server), batch)

    # -- loops ---------------------------------------------------------------------------------------------------------
    async def _flush_loop(self) -> None:
        while True:
            await asyncio.sleep(GATEWAY_FLUSH_MS / 1_000)
            self.moves.flush()
            if not self.fanout.idle():
                self.fanout.flush()

    async def _sweep_loop(self) -> None:
        while True:
            await asyncio.sleep(SESSION_SWEEP_MS / 1_000)
            now = self.clock.monotonic_ms()
            for client in list(self._clients.values()):
                if client.session.wake_ms <= now:
                    client.run(client.session.tick())
            for node, generation in self._silent.found(self._watched):
                self._server_dead(node, generation)

    async def _refresh_loop(self) -> None:
        """Fetch the fresh snapshots that the mirror wants."""
        while True:
            await asyncio.sleep(SESSION_SWEEP_MS / 1_000)
            if wanted := sorted(self.fanout.refresh)[:MIRROR_REFRESHES_IN_FLIGHT]:
                await asyncio.gather(*[self._refresh(publisher, cell) for publisher, cell in wanted])

    async def _refresh(self, publisher: int, cell: int) -> None:
        try:
            answer = await self.mesh.call(NodeId(f"gs{publisher}"), AskSnapshot(cell), deadline_ms=JOIN_RETRY_MS)
            if isinstance(answer, CellSnapshot):
                self.fanout.refreshed(publisher, cell, answer.body)
        except (MeshError, BadFrame) as error:  # asked again: the wish stays
            self.service.log.debug("no fresh snapshot", publisher=publisher, cell=cell, error=str(error))

    def measure(self) -> None:
        """Bring the gauges up to date; called before they are read."""
        self.counters.clients.set(len(self._clients))
        self.counters.sessions.set(len(self._sessions))
        fanout, moves = self.fanout, self.moves
        for what in ("slices", "chunks", "bytes", "skips", "fresh"):
            self.counters.flow.labels(what).set(getattr(fanout, what))
        self.counters.flow.labels("move_rows").set(moves.rows)
        self.counters.flow.labels("move_rows_dropped").set(moves.dropped_rows)
        for what, value in fanout.statistics().items():
            self.counters.mirror.labels(what).set(value)
