"""One engine on one input: started, followed to its last output, measured from outside, judged by the oracle."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import httpx

from bench.cluster import Cluster, Row
from bench.meter import Meter
from crossfade.child import with_parent
from schemas import kafka
from schemas.settings import CHECKOUT

MEASURED_FROM = 0.1
"""Rates count from this share of the input on: what comes before is start-up."""

_SETTLED_S, _GIVEN_UP_S, _STOP_S, _JOINED_S = 2.0, 30.0, 4.0, 40.0
Judge = Callable[[list[Row]], str | None]
Progress = list[tuple[int, float]]
"""(events consumed, Unix time), ascending."""


@dataclass(frozen=True)
class Task:
    """What an engine is to do. `rows`: how many different results the oracle has; 0 for a job without output."""

    topic: str
    events: int
    output: str
    rows: int
    judge: Judge
    window_ms: int = 60_000
    grace_ms: int = 10_000
    snapshot_every_ms: int = 1_000


@dataclass(frozen=True)
class Measured:
    """What a trial found. `problem` is None when every row of the output was right."""

    events_per_s: float
    events_per_cpu_s: float
    rss_mb: float
    problem: str | None
    batch_events: float | None = None
    """Mean number of events in a batch, where the engine tells."""
    tenths_mb: tuple[float, ...] = ()
    """Peak memory within each tenth of the input, in MB."""


@dataclass
class Running:
    """A process under test, with what it has told."""

    process: subprocess.Popen[str]
    log: Path
    progress: Progress = field(default_factory=list)
    batches: int = 0
    is_done: bool = True
    """False as long as it says of itself that it lags."""

    def read(self) -> None:
        """Takes the lines `consumed COUNT UNIX_SECONDS [BATCHES]` of its output until it ends."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            words = line.split()
            if len(words) >= 3 and words[0] == "consumed":
                self.batches = int(words[3]) if len(words) > 3 else 0
                self.progress.append((int(words[1]), float(words[2])))

    def poll_health(self, port: int, topic: str) -> None:
        """Asks /healthz of the complete worker for its offsets in `topic`, ten times a second, until it ends."""
        self.is_done = False
        with httpx.Client(timeout=1) as client:
            while self.process.poll() is None:
                with contextlib.suppress(httpx.HTTPError, KeyError, ValueError):
                    told = client.get(f"http://127.0.0.1:{port}/healthz").json()
                    self.is_done = told["lag"] == 0
                    mine = [n or 0 for place, n in told["next"].items() if place.startswith(f"{topic}/")]
                    if mine:
                        self.progress.append((sum(mine), time.time()))
                time.sleep(0.1)

    @property
    def consumed(self) -> int:
        """Events consumed so far."""
        return self.progress[-1][0] if self.progress else 0


@dataclass
class Group:
    """Processes that share an input."""

    members: list[Running]

    @property
    def consumed(self) -> int:
        """Events consumed so far."""
        return sum(member.consumed for member in self.members)

    @property
    def batches(self) -> int:
        """Batches in which they came."""
        return sum(member.batches for member in self.members)

    @property
    def ended(self) -> Running | None:
        """A process that has ended."""
        return next((member for member in self.members if member.process.poll() is not None), None)

    def progress(self) -> Progress:
        """Events consumed by all, over time."""
        steps: list[tuple[float, int]] = []
        for member in self.members:
            before = 0
            for count, at in list(member.progress):
                steps.append((at, count - before))
                before = count
        total, found = 0, []
        for at, more in sorted(steps):
            total += more
            found.append((total, at))
        return found


@contextlib.contextmanager
def started(
    command: list[str], environment: dict[str, str], directory: Path, stop_signal: int = signal.SIGTERM
) -> Iterator[Running]:
    """Runs a program until the block ends; its standard error goes to `engine.log` in `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    log = directory / "engine.log"
    with log.open("ab") as errors:
        process = subprocess.Popen(
            with_parent(command),
            env={**os.environ, "PYTHONPATH": str(CHECKOUT), **environment},
            cwd=CHECKOUT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    running = Running(process, log)
    reader = threading.Thread(target=running.read, daemon=True)
    reader.start()
    try:
        yield running
    finally:
        process.send_signal(stop_signal)
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(_STOP_S)
        reader.join(_STOP_S)
        if process.stdout is not None:
            process.stdout.close()


def environment_of(cluster: Cluster, task: Task, directory: Path) -> dict[str, str]:
    """What bench.jobs.job and bench.Job read."""
    return {
        "BENCH_BOOTSTRAP": cluster.settings.kafka_bootstrap_servers,
        "BENCH_INPUT": task.topic,
        "BENCH_OUTPUT": task.output,
        "BENCH_DIR": str(directory),
        "BENCH_EVENTS": str(task.events),
        "BENCH_WINDOW_MS": str(task.window_ms),
        "BENCH_GRACE_MS": str(task.grace_ms),
        "BENCH_SNAPSHOT_EVERY_MS": str(task.snapshot_every_ms),
    }


def run(
    cluster: Cluster,
    task: Task,
    command: list[str],
    environment: dict[str, str],
    timeout_s: float,
    health_port: int | None = None,
    processes: int = 1,
    stop_signal: int = signal.SIGTERM,
) -> Measured:
    """Runs an engine over the whole input; a problem is told in the result, never raised.

    `processes`: so many of the same share the input; none begins before all have their share.
    """
    directory = cluster.settings.data_dir / task.output
    gate = directory / "gate"
    if processes > 1:
        environment = environment | {"BENCH_GATE": str(gate)}
    told = environment_of(cluster, task, directory) | environment
    with contextlib.ExitStack() as stack:
        group = Group([stack.enter_context(started(command, told, directory, stop_signal)) for _ in range(processes)])
        if health_port is not None:
            polling = (health_port, task.topic)
            threading.Thread(target=group.members[0].poll_health, args=polling, daemon=True).start()
        meter = Meter(*(member.process.pid for member in group.members))
        if processes > 1:
            _wait_for_all(group)
            gate.touch()
        problem = _follow(cluster, task, group, time.monotonic() + timeout_s)
        meter.stop()
        rows = cluster.rows(task.output) if task.rows else []
    problem = problem or (task.judge(rows) if task.rows else None)
    shutil.rmtree(directory, ignore_errors=True)
    return measured(group, rows, meter, task.events, problem)


def _wait_for_all(group: Group) -> None:
    end = time.monotonic() + _JOINED_S
    while not all(member.progress for member in group.members) and group.ended is None and time.monotonic() < end:
        time.sleep(0.05)


def measured(group: Group, rows: list[Row], meter: Meter, events: int, problem: str | None) -> Measured:
    """Rates from a tenth of the input consumed to the last output."""
    progress = group.progress()
    begun = next(((n, at) for n, at in progress if n >= MEASURED_FROM * events), None)
    if begun is None:
        return Measured(0.0, 0.0, meter.rss_mb(), problem or "the input was not read")
    consumed, start = begun
    end = max((row.time_ms for row in rows), default=0) / 1000 or progress[-1][1]
    done = (events if problem is None else min(events, progress[-1][0])) - consumed
    cpu_s = meter.cpu_s(start, end)
    rates = done / max(end - start, 1e-3), done / max(cpu_s, 1e-2)
    batch_events = group.consumed / group.batches if group.batches else None
    reached = [next((at for n, at in progress if n >= tenth * events / 10), end) for tenth in range(1, 11)]
    tenths_mb = tuple(meter.rss_mb(b, a) for a, b in pairwise((0.0, *reached)))
    return Measured(*rates, meter.rss_mb(end), problem, batch_events, tenths_mb)


def _follow(cluster: Cluster, task: Task, running: Group, deadline: float) -> str | None:
    """Returns when the output is complete and rests, or why it never will be."""
    watcher = kafka.consumer(cluster.settings, "bench-watcher")
    size, consumed, since = -1, 0, time.monotonic()
    try:
        while time.monotonic() < deadline:
            time.sleep(0.2)
            if not task.rows:
                if running.consumed >= task.events:
                    return None
            elif (now := (cluster.ends(task.output, watcher), running.consumed)) != (size, consumed):
                (size, consumed), since = now, time.monotonic()
            else:
                rested, has_read = time.monotonic() - since, consumed >= 0.99 * task.events
                is_done = all(member.is_done for member in running.members)
                if (rested > _SETTLED_S and size >= task.rows and is_done) or (
                    rested > _GIVEN_UP_S and has_read and size > 0
                ):
                    return None
            ended = running.ended
            if ended is not None and (size <= 0 or time.monotonic() - since > _SETTLED_S):
                return None if ended.process.returncode == 0 else _last_words(ended)
    finally:
        watcher.close()
    return f"not ready in time: {running.consumed} of {task.events} events, {max(size, 0)} of {task.rows} results"


def _last_words(running: Running) -> str:
    said = running.log.read_text(errors="replace").strip()
    print(said[-4000:], file=sys.stderr)
    last = said.splitlines()[-1] if said else "no message"
    with contextlib.suppress(ValueError, KeyError, TypeError):
        last = json.loads(last)["problem"]
    return f"ended with status {running.process.returncode}: {last[:200]}"
