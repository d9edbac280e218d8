"""Where the worker's time goes: py-spy over the simple job or the complete worker, summed by what the code is for.

`python -m bench.profile [--events N] [--engine crossfade|crossfade-product]`
"""

from __future__ import annotations

import argparse
import contextlib
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

from bench import engines, results
from bench.cluster import cluster
from bench.engine_list import ENGINES, NAMES, Engine
from bench.generator import Shape
from bench.install import UnavailableError, environment
from crossfade.problem import ProblemError

_RATE_HZ = 200
_IDLE = re.compile(
    r"(Selector\.select|_worker \(concurrent|\bwait \(threading|serve_forever|_watch \(stream_processors)"
)
_START = re.compile(r"importlib|venusian|_find_and_load")
PURPOSES: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (purpose, re.compile(pattern))
    for purpose, pattern in (
        ("decompress the input", r"lz4_decode|zstd_decode|snappy_decode|gzip_decode"),
        ("check sums, cut into record batches", r"_unpack_records"),
        ("decode", r"CursorWire\.read|Wire\.read"),
        ("drop duplicates", r"duplicates\.py"),
        ("plays and sessions", r"plays\.py|sessions\.py|folding\.py|tracker\.py"),
        ("tracks", r"catalogue\.py"),
        ("encode results", r"record_batch\.py|encode\.py"),
        ("snapshots", r"snapshots\.py"),
        ("windows", r"windows\.py|PartitionWindows|rollups\.py|EventsAgent\.process"),
        ("merge partitions", r"merge\.py|MergeAgent|MergedWindows"),
        ("rest of the agents", r"partition\.py|agents\.py|resumable\.py"),
        ("produce", r"producer/|outbox\.py"),
        ("fetch", r"fetcher\.py|_fetch|consumer\.py|Thread-1"),
        ("asyncio and Faust", r"."),
    )
)
"""The first pattern that is found in a stack names its purpose."""


def summed(raw: str) -> list[tuple[str, float]]:
    """(purpose, share of the samples that were busy) of py-spy's raw output, the greatest first."""
    found: Counter[str] = Counter()
    for line in raw.splitlines():
        stack, _, count = line.rpartition(" ")
        if not count.isdigit() or _START.search(stack) or _IDLE.search(stack.split(";")[-1]):
            continue
        found[next(purpose for purpose, pattern in PURPOSES if pattern.search(stack))] += int(count)
    total = max(1, found.total())
    return [(purpose, count / total) for purpose, count in found.most_common()]


def sample(engine: Engine, events: int, minutes: float, file: Path, timeout_s: float) -> str | None:
    """Runs an engine under py-spy; returns what was wrong with its output. Raises UnavailableError."""
    spy = environment("py-spy").with_name("py-spy")

    def command() -> list[str]:
        options = ["-r", str(_RATE_HZ), "-t", "--format", "raw", "-o", str(file)]
        return [str(spy), "record", *options, "--", *engine.command()]

    under = Engine(**{**engine.__dict__, "command": command})
    with cluster() as here:
        row = engines.measure(
            engines.Inputs(here, Shape(events, minutes=minutes)), under, 0, timeout_s, stop_signal=signal.SIGINT
        )
    problem: str | None = row["problem"]
    return problem


def main(arguments: list[str] | None = None) -> int:
    """Profiles, prints, and writes a section of RESULTS.md."""
    parser = argparse.ArgumentParser(prog="python -m bench.profile", description=__doc__)
    names = [name for name in NAMES if name.startswith("crossfade")]
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--minutes", type=float, default=20.0, help="of event time that the events span")
    parser.add_argument("--engine", default=names[0], choices=names)
    parser.add_argument("--raw", type=Path, default=Path("profile.txt"), help="stacks, for flame graphs")
    parser.add_argument("--timeout", type=float, default=300.0)
    parser.add_argument("--no-results", action="store_true", help="leaves RESULTS.md as it is")
    options = parser.parse_args(arguments)
    engine = next(engine for engine in ENGINES if engine.name == options.engine)
    try:
        problem = sample(engine, options.events, options.minutes, options.raw, options.timeout)
        shares = summed(options.raw.read_text())
    except (UnavailableError, ProblemError, OSError, subprocess.SubprocessError) as error:
        sys.exit(f"No profile: {error}")
    text = "\n\n".join(
        [
            f"`python -m bench.profile --engine {engine.name} --events {options.events}`: {results.machine()}.",
            f"Share of py-spy's samples ({_RATE_HZ} a second, all threads, start-up and waiting left out). "
            f"Output {problem or 'correct'}.",
            results.table(["what for", "share"], [[purpose, f"{100 * share:.0f} %"] for purpose, share in shares]),
        ]
    )
    print(text)
    if not options.no_results:
        results.write(f"Profile of {engine.name}", text)
    return int(problem is not None)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
