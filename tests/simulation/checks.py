"""What must hold. ``Monitor`` looks while faults strike; ``disagreements`` is asked until it is empty, after them;
``verdict`` judges the whole once all is calm. Each problem is a sentence; no problem, no violation.

::

    invariant                                 looked at by
    1 one writer per (unit, epoch)            watch.StoreWatch: every write that lands
    2 items are conserved                     verdict: the audit of all documents, each player's deeds
    3 what is acknowledged survives           player: committed by then; verdict: still there
    4 an operation applies at most once       watch.StoreWatch: one transfer per command, no refused one is done
    5 ghosts converge, late ones are flagged  disagreements; Monitor
    6 a session survives any one process      player: numbered events without gap, of the attached stream only; the same
                                              session; sockets end by their way's or gateway's end, or a second client
    7 nothing waits on a broker               there is none at all
    8 no watched unit ownerless, none stuck   Monitor; disagreements: held by who is named, no transfer open
    inputs and motion                         player: applied ones stay applied, over hand-offs too; no jumps
    one owner publishes an entity             disagreements
    the wall clock decides nothing            watch.wall_clock_watch: nobody looks; verdict: one world time
    the dead are not heeded                   watch.generation_watch
    nor are older owners                      watch.epoch_watch
    a hand-off changes the owner, no more     continuity.Attachments: attached to a newer owner each time, no resync
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np

from gameserver.server import GameServer
from tests.simulation.cluster import SimCluster
from tests.simulation.picture import Shown
from tests.simulation.player import Player
from tests.simulation.trades import half_done
from tests.simulation.watch import UNITS, Command
from world.audit import audit
from world.grid import cell_of_subcell, subcell_at, subcells_in_sight
from world.ids import avatar_unit, node_number, region_unit
from world.limits import SIGHT_M, STALE_AFTER_MS, TICK_MS
from world.results import command_key
from world.transaction_document import ABORTED, KIND, Intent, transaction_id
from world.unit_document import UnitDocument

DOCUMENTED = frozenset(
    {
        *("too_far", "depleted", "not_gatherable", "no_such_target", "busy", "too_many_commands", "settled"),
        *("store_unavailable", "unreachable", "moved", "stale"),
        *("trade_busy", "trade_closed", "trade_changed", "not_enough", "no_room"),
    }
)
REFUSALS = frozenset({"too_far", "depleted", "not_gatherable", "no_such_target"}) | {
    *("trade_busy", "trade_closed", "trade_changed", "not_enough", "no_room"),
}  # for good
OWNERLESS_BOUND_S = 15.0  # a watched region: death after 3 s, then by need, under loss
MONITOR_S = 0.25
ENDS = frozenset({1006, 1012, 4003, 4005, 4010})  # cut, restarting, too slow, silent
WORLD_TIME_BOUND_MS = 1_000
TASK_ENDED = "task failed"  # the process ends by it, which the cluster judges

Said = dict[int, tuple[int, Shown]]  # entity -> (sub-cell, as shown)


def said_by(game: GameServer) -> Said:
    """All that a server has told the world of its reals. Looks into its columns, as no service may."""
    state: Any = game.state
    columns, publishing = state._columns, state._publishing
    rows = np.flatnonzero(columns.said_subcell[: columns.count] >= 0)
    records = publishing.records(rows, game.service.clock.world_ms())
    found: Said = {}
    for row, record in zip(rows.tolist(), records.tolist(), strict=True):
        entity, epoch, version, x, y = record[:5]
        groups = tuple((g, v, body) for g, (v, body) in sorted(publishing.properties.get(entity, {}).items()))
        found[entity] = int(columns.said_subcell[row]), (epoch, version, x, y, groups)
    return found


# -- convergence ------------------------------------------------------------------------------------------------------
def disagreements(cluster: SimCluster, players: list[Player]) -> Iterator[str]:
    """What is not yet as it must become: nodes down, players not in, ghosts unlike reals, units open or nobody's. The
    cheapest questions first: mostly only the first answer is asked for."""
    problems = list(_absent(cluster, players))
    yield from problems
    if problems:
        return
    yield from _units(cluster)
    said = {name: said_by(game) for name, game in cluster.games.items()}
    yield from _published_once(said)
    for player in players:
        yield from _player(cluster, player, said)
    for name, game in cluster.games.items():
        yield from _ghosts(name, game, said)


def _absent(cluster: SimCluster, players: list[Player]) -> Iterator[str]:
    yield from (f"{node.name} is down" for node in cluster.nodes.values() if not node.up)
    for p in players:
        if p.client.lost.is_set() or not p.client.server:
            yield f"{p.name} is not connected"
        yield from (f"{p.name}'s first client is not sent away" for c in p.replaced if not c.lost.is_set())
        if not p.stands:
            yield f"{p.name}'s last claims are not applied"
        yield from (f"{p.name} waits for command {t.number} {t.op}" for t in p.waiting)


def _published_once(said: dict[str, Said]) -> Iterator[str]:
    publishers: defaultdict[int, list[str]] = defaultdict(list)
    for name, entities in said.items():
        for entity in entities:
            publishers[entity].append(name)
    yield from (f"{entity} is published by {names}" for entity, names in publishers.items() if len(names) > 1)


def _ghosts(name: str, game: GameServer, said: dict[str, Said]) -> Iterator[str]:
    """Per cell that this server sees: its ghosts are the others' reals, nothing more and nothing less."""
    state: Any = game.state
    ghosts = state._ghosts
    expected: dict[tuple[int, int], dict[int, Shown]] = defaultdict(dict)
    for other, entities in said.items():
        for entity, (subcell, shown) in entities.items():
            if other != name and cell_of_subcell(subcell) in state._sight:
                expected[node_number(other), cell_of_subcell(subcell)][entity] = shown
    held = {key: entities for key, entities in ghosts.said.items() if entities and key[1] in state._sight}
    for key in expected.keys() | held.keys():
        mine = {e: _as_shown(ghost) for e, ghost in held.get(key, {}).items()}
        yield from _unlike(f"{name}'s ghosts of gs{key[0]} in cell {key[1]}", mine, expected.get(key, {}))
    counted = {e: shown for cell in expected.values() for e, shown in cell.items()}
    seen = {e: _as_shown(ghost) for e, ghost in ghosts.held.items() if ghost.cell in state._sight}
    yield from _unlike(f"{name}'s ghosts that count", seen, counted)
    for publisher in {key[0] for key in expected}:
        if state._in.stale(publisher):
            yield f"{name} holds gs{publisher} for stale"


def _as_shown(ghost: Any) -> Shown:
    groups = tuple((g, v, body) for g, (v, body) in sorted(ghost.groups.items()))
    return ghost.epoch, ghost.version, ghost.x, ghost.y, groups


def _unlike(what: str, mine: dict[int, Shown], theirs: dict[int, Shown]) -> Iterator[str]:
    if mine == theirs:
        return
    missing, extra = theirs.keys() - mine.keys(), mine.keys() - theirs.keys()
    if missing or extra:
        yield f"{what}: {len(missing)} missing {sorted(missing)[:3]}, {len(extra)} too many {sorted(extra)[:3]}"
    for entity in sorted(mine.keys() & theirs.keys()):
        if mine[entity] != theirs[entity]:
            yield f"{what}: {entity} is {mine[entity]}, not {theirs[entity]}"


def _player(cluster: SimCluster, player: Player, said: dict[str, Said]) -> Iterator[str]:
    """What this client shows is what publishers say in its sight; its owner, position and inventory are true."""
    client, avatar = player.client, player.client.avatar
    game = cluster.games.get(client.server)
    if game is None or avatar not in said[client.server]:
        yield f"{player.name} believes to be on {client.server}, which does not have it"
        return
    _epoch, _version, x, y, _groups = said[client.server][avatar][1]
    if abs(x - client.x) + abs(y - client.y) > 0.02:
        yield f"{player.name} stands at {client.x:.2f}, {client.y:.2f}, its owner says {x:.2f}, {y:.2f}"
    needed = subcells_in_sight(subcell_at(x, y), round(SIGHT_M))
    if not needed <= player.picture.sight:
        yield f"{player.name} is not shown {len(needed - player.picture.sight)} sub-cells of its sight"
    truth = {
        e: shown for entities in said.values() for e, (at, shown) in entities.items() if at in player.picture.sight
    }
    yield from _unlike(f"{player.name}'s picture", player.picture.shown(asyncio.get_running_loop().time()), truth)
    stored = _stored_items(cluster, avatar)
    if client.inventory != stored:
        yield f"{player.name} believes to have {client.inventory}, the store says {stored}"


def _stored_items(cluster: SimCluster, avatar: int) -> dict[str, int]:
    document = UnitDocument.parse(cluster.table.documents[avatar_unit(avatar)].value)
    return dict(document.data.entities.get(str(avatar), {}).get("items", {}))


def _units(cluster: SimCluster) -> Iterator[str]:
    """Every watched region and every present avatar is held by the living server that its document names; no
    transfer is open."""
    for name, game in cluster.games.items():
        wanted = [region_unit(x, y) for x, y in game.state.seers()] + [avatar_unit(p.avatar) for p in game.presences]
        for unit in wanted:
            head = cluster.watch.heads.get(unit)
            holder = cluster.games.get(head.owner) if head is not None else None
            owned = holder.table.get(unit) if holder is not None else None
            if head is None or owned is None or owned.unit.epoch != head.epoch:
                yield f"{unit}, wanted on {name}, is held by nobody living: {head}"
        yield from (f"{o.key} on {name} has open intents" for o in game.table if o.unit.has_intents)
    for key, document in cluster.table.documents.items():
        if key.startswith(f"{KIND}:") and Intent.parse(document.value).state != ABORTED:
            yield f"{key} is under way"


# -- while it happens -------------------------------------------------------------------------------------------------
class Monitor:
    """Staleness is flagged; no watched region is ownerless for long."""

    def __init__(self, cluster: SimCluster) -> None:
        self._cluster = cluster
        self._ownerless_s: dict[str, float] = {}
        self.problems: list[str] = []
        self.stale_seen = 0
        self.longest_ownerless_s = 0.0

    async def watch(self) -> None:
        """For ever."""
        while True:
            await asyncio.sleep(MONITOR_S)
            self._staleness()
            self._ownerless()

    def _staleness(self) -> None:
        """A ghost whose publisher was not heard for longer than its bound says so."""
        grace_s, now = 2 * TICK_MS / 1_000, asyncio.get_running_loop().time()
        for name, game in self._cluster.games.items():
            if self._cluster.stands_still(name) or now < self._cluster.nodes[name].woke_s + grace_s:
                continue
            ghosts = game.state._ghosts
            for (publisher, _cell), said in ghosts.said.items():
                silent_s = self._cluster.digests.silent_s(name, f"gs{publisher}")
                if not said or silent_s <= STALE_AFTER_MS / 1_000 + grace_s:
                    continue
                entity = next(iter(said))
                found = game.state.find(entity)
                if found is not None and found.publisher == publisher:
                    self.stale_seen += 1
                    if not found.stale:
                        self.problems.append(f"{name} reads {entity} as fresh, gs{publisher} silent {silent_s:.2f} s")

    def _ownerless(self) -> None:
        cluster, now = self._cluster, asyncio.get_running_loop().time()
        if cluster.store_is_away(now):  # from everyone: nobody can take anything, however long it lasts
            self._ownerless_s.clear()
            return
        watched = {region_unit(x, y) for game in cluster.games.values() for x, y in game.state.seers()}
        for unit in watched:
            head = cluster.watch.heads.get(unit)
            if head is not None and head.owner and cluster.lives(head.owner, head.generation):
                self._ownerless_s.pop(unit, None)
                continue
            since_s = now - self._ownerless_s.setdefault(unit, now)
            self.longest_ownerless_s = max(self.longest_ownerless_s, since_s)
            if since_s > OWNERLESS_BOUND_S:
                self.problems.append(f"{unit} is watched and nobody's for {since_s:.1f} s: {head}")
        for left in self._ownerless_s.keys() - watched:
            del self._ownerless_s[left]


# -- in the end -------------------------------------------------------------------------------------------------------
def verdict(cluster: SimCluster, players: list[Player], monitor: Monitor) -> list[str]:
    """Once nothing happens any more."""
    kinds = (*UNITS, f"{KIND}:")
    documents = {key: d.value for key, d in cluster.table.documents.items() if key.startswith(kinds)}
    problems = [*cluster.problems, *cluster.watch.broken, *monitor.problems]
    problems += [error for error in cluster.trace.errors if TASK_ENDED not in error]
    problems += [f"audit: {problem}" for problem in audit(documents)]
    problems += [*half_done(cluster.watch.trades, documents), *cluster.watch.trades.too_long(cluster.plan)]
    problems += _times(cluster)
    for player in players:
        problems += player.problems
        problems += _ends(player)
        if player.client.avatar and avatar_unit(player.client.avatar) in documents:
            problems += _deeds(cluster, player)
    return problems


def _ends(player: Player) -> Iterator[str]:
    """Sockets end by faults of the way, by their gateway's end, and where the same account came in elsewhere."""
    for code in player.codes:
        if code not in ENDS and not (code == 4002 and player.replaced):
            yield f"{player.name}: a connection ended with {code}"


def _times(cluster: SimCluster) -> Iterator[str]:
    """Wherever a process found its wall clock when it was started: there is one world time."""
    times = {node.name: node.service.clock.world_ms() for node in cluster.nodes.values() if node.service is not None}
    if max(times.values()) - min(times.values()) > WORLD_TIME_BOUND_MS:
        yield f"world time is {times}"


def _deeds(cluster: SimCluster, player: Player) -> Iterator[str]:
    """Acknowledged gatherings are there, each once, and nothing is there that no command gathered."""
    unit, client = avatar_unit(player.client.avatar), player.client
    acknowledged: Counter[str] = Counter()
    for told in player.told:
        if told.result is None:
            continue
        if not told.result.ok and told.result.code not in DOCUMENTED:
            yield f"{player.name}: {told.op} answered {told.result.code}: {told.result.detail}"
        if told.result.code in REFUSALS and cluster.watch.caused.get(Command(unit, told.session, told.number)):
            yield f"{player.name}: command {told.number} was refused as {told.result.code}, and done"
        tx = transaction_id(command_key(unit, told.session, told.number))
        if told.result.code in REFUSALS and tx in cluster.watch.trades.committed:
            yield f"{player.name}: command {told.number} was refused as {told.result.code}, and committed"
        if told.op == "gather" and told.result.ok:
            acknowledged.update(told.result.value["items"])
            if not cluster.watch.caused.get(Command(unit, told.session, told.number)):
                yield f"{player.name}: command {told.number} was acknowledged and never committed"
    stored = Counter(_stored_items(cluster, client.avatar))
    stored.subtract(cluster.watch.trades.traded(unit))
    caused = [command for command in cluster.watch.caused if command.unit == unit]
    if acknowledged - stored:
        yield f"{player.name} was given {dict(acknowledged)} and has {dict(stored)}"
    if stored.total() > len(caused):
        yield f"{player.name} has {dict(stored)} from {len(caused)} gatherings"
    if len(caused) > sum(told.op == "gather" for told in player.told):
        yield f"{player.name}: {len(caused)} gatherings were committed, more than were asked for"
