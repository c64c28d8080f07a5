"""Run simulations: ``python -m tests.simulation --seeds 1000`` many, ``--seed 7 --trace`` one, to be read."""

import argparse
import os
import sys
import time

from tests.simulation.ablations import ABLATIONS
from tests.simulation.plan import draw
from tests.simulation.pool import replay_command, run_seeds, workers
from tests.simulation.run import Report, simulate
from tests.simulation.trace import first


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=500, help="how many")
    parser.add_argument("--start", type=int, default=0, help="the first one")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--seed", type=int, help="just this one, in this process")
    parser.add_argument("--trace", action="store_true", help="with --seed: print all that happened")
    parser.add_argument("--without", choices=sorted(ABLATIONS), default="", help="take a safeguard out")
    parser.add_argument("--keep-going", action="store_true", help="do not stop at the first failure")
    asked = parser.parse_args()
    if asked.seed is not None:
        return one(asked.seed, asked.without, asked.trace)
    return many(range(asked.start, asked.start + asked.seeds), asked.workers, asked.without, asked.keep_going)


def one(seed: int, without: str, trace: bool) -> int:
    if os.environ.get("PYTHONHASHSEED") != "0":  # chosen when an interpreter starts
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "tests.simulation", *sys.argv[1:]])
    report = simulate(seed, without, trace)
    if trace:
        print(report.text)
    print(draw(seed).describe())
    say(report)
    return 0 if report.ok else 1


def many(seeds: range, processes: int, without: str, keep_going: bool) -> int:
    began, failed = time.monotonic(), 0
    with workers(processes) as pool:
        for done, report in enumerate(run_seeds(pool, seeds, 2 * processes, without), 1):
            if not report.ok:
                failed += 1
                print(f"\nseed {report.seed} failed; replay it by: {replay_command(report.seed, without)}")
                say(report)
                if not keep_going:
                    break
            rate = done / (time.monotonic() - began)
            print(f"\r{done}/{len(seeds)} seeds, {failed} failed, {rate:.2f}/s ", end="", flush=True)
    print()
    return 1 if failed else 0


def say(report: Report) -> None:
    figures = ", ".join(f"{name} {value:.5g}" for name, value in report.figures.items())
    print(f"seed {report.seed}, trace {report.digest}: {figures}")
    if report.problems:
        print("  " + first(report.problems))


if __name__ == "__main__":
    sys.exit(main())
