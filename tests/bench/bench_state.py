"""What the state plane costs: packing movers into cell frames against packing them one by one, ticks, ghosts.

``python -m tests.bench.bench_state``; figures in one run, so that both sides stand on the same machine.
"""

import struct
import time
from collections import defaultdict
from collections.abc import Callable

import numpy as np

from gameserver import tick
from gameserver.columns import Columns
from gameserver.ghosts import Ghosts
from gameserver.publishing import PLACES, Publishing, motion_frames, sort_key
from world import frames, grid, motion
from world.channels.publisher import CellPublisher

ENTITIES, SIDE_M, ROUNDS = 5_000, 4_096, 30
NOW = 1_700_000_000_000


def best_ns(work: Callable[[], object], rounds: int = ROUNDS) -> float:
    """The fastest of several runs: what the machine can do when nothing disturbs it."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter_ns()
        work()
        times.append(time.perf_counter_ns() - start)
    return float(min(times))


def crowd(count: int = ENTITIES, side_m: float = SIDE_M) -> tuple[Columns, Publishing, CellPublisher]:
    """Movers spread evenly over about (side / 128)² cells, every cell listened to."""
    rng = np.random.default_rng(1)
    columns, core = Columns(), CellPublisher(1, 1)
    core.listeners[:] = 1
    publishing = Publishing(columns, core)
    for n in range(count):
        columns.add((1 << 48) + n)
    n = columns.count
    columns.avatar[:n], columns.epoch[:n], columns.version[:n] = True, 1, 1
    columns.x0[:n], columns.y0[:n] = rng.uniform(0, side_m, n), rng.uniform(0, side_m, n)
    columns.at_x[:n], columns.at_y[:n], columns.t0[:n] = columns.x0[:n], columns.y0[:n], NOW
    columns.subcell[:n] = grid.subcells_at(columns.x0[:n], columns.y0[:n])
    columns.budget[:n], columns.filled_at[:n] = motion.BUDGET_M, NOW
    columns.session[:n], columns.connection[:n], columns.gateway[:n] = 1, 1, 0
    return columns, publishing, core


def sink(_cell: int, _body: bytes) -> bool:
    return True


def naive_pack(rows: list[tuple[int, ...]]) -> dict[int, bytes]:
    """One struct.pack per entity, joined per sub-cell and cell: the baseline."""
    record = struct.Struct("<QIIffffII")
    by_cell: dict[int, dict[int, list[bytes]]] = defaultdict(lambda: defaultdict(list))
    for key, *values in rows:
        by_cell[key // PLACES][key % PLACES].append(record.pack(*values))
    built = {}
    for cell, places in by_cell.items():
        slices = [
            frames.slice_bytes(
                frames.SLICE,
                place,
                cell,
                1,
                1,
                1,
                NOW,
                [frames.BLOCK.pack(frames.BLOCK_MOTION, 0, len(records), 40 * len(records)) + b"".join(records)],
            )
            for place, records in places.items()
        ]
        built[cell] = frames.frame_bytes(cell, 1, 1, 1, NOW, slices)
    return built


def report(what: str, ns: float, per: int, unit: str) -> None:
    print(f"{what:<58} {ns / 1e6:9.3f} ms {ns / per:9.0f} ns/{unit}")


def bench_packing() -> None:
    columns, publishing, core = crowd()
    rows = np.arange(columns.count)
    publishing.flush(rows, NOW, 0.0, sink)

    def pack() -> list[tuple[int, bytes]]:
        keys = sort_key(columns.said_subcell[rows])
        order = np.argsort(keys, kind="stable")
        ordered = keys[order]
        sequences = dict.fromkeys(np.unique(ordered // PLACES).tolist(), 1)
        return motion_frames(ordered, publishing.records(rows[order], NOW), sequences, 1, 1, NOW)

    keys = sort_key(columns.said_subcell[rows]).tolist()
    records = publishing.records(rows, NOW).tolist()
    flat = [(key, *record) for key, record in zip(keys, records, strict=True)]
    cells = len({k // PLACES for k in keys})
    print(f"{ENTITIES} movers in {cells} cells, {len(set(keys))} sub-cells")
    array_ns, naive_ns = best_ns(pack), best_ns(lambda: naive_pack(flat))
    assert dict(pack()) == naive_pack(sorted(flat))
    report("pack: one array, cut into frames", array_ns, ENTITIES, "entity")
    report("pack: struct.pack per entity (baseline)", naive_ns, ENTITIES, "entity")
    print(f"{'':<58} {naive_ns / array_ns:9.1f} times faster")
    report(
        "flush: pack, versions, sequences, ring",
        best_ns(lambda: publishing.flush(rows, NOW, 0.0, sink)),
        ENTITIES,
        "entity",
    )
    report(
        "digest: count and hash per cell",
        best_ns(lambda: core.full_digest(publishing.summary(), NOW, 0.0)),
        ENTITIES,
        "entity",
    )


def bench_tick() -> None:
    columns, publishing, _core = crowd(2_000, 1_024.0)
    moves = np.zeros(1_000, frames.MOVE_ROW)
    moves["avatar"], moves["session"], moves["connection"] = columns.entity[:1_000], 1, 1
    moves["x"], moves["y"], moves["vx"] = columns.at_x[:1_000], columns.at_y[:1_000], 2.0
    state = {"now": NOW}

    def inputs() -> None:
        state["now"] += 100
        moves["input"] += 1
        moves["time"] = state["now"]
        moves["x"], moves["y"] = columns.at_x[:1_000], columns.at_y[:1_000]
        tick.take_inputs(columns, moves, state["now"], 0.0, lambda xs, ys: np.ones(len(xs), np.bool_))

    def step() -> None:
        inputs()
        tick.walk(columns, state["now"], 0.0, lambda xs, ys: np.ones(len(xs), np.bool_))
        publishing.flush(tick.due(columns, state["now"]), state["now"], 0.0, sink)

    report("inputs: 1,000 claims judged and applied", best_ns(inputs), 1_000, "claim")
    report("whole tick: 2,000 avatars, 1,000 claims", best_ns(step), 2_000, "avatar")


def bench_ghosts() -> None:
    _columns, publishing, _core = crowd(1_000, 512.0)
    bodies: list[tuple[int, bytes]] = []

    def keep(cell: int, body: bytes) -> bool:
        bodies.append((cell, body))
        return True

    for _ in range(2):
        publishing.flush(np.arange(1_000), NOW, 0.0, keep)

    def apply() -> None:
        table = Ghosts(watched=lambda cell: True)
        for cell, body in bodies:
            table.apply(1, cell, body, False, 0.0)

    report("ghosts: apply 2 x 1,000 records", best_ns(apply), 2_000, "record")


if __name__ == "__main__":
    bench_packing()
    bench_tick()
    bench_ghosts()
