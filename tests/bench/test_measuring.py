"""What is read off a process under test: rates, CPU, memory, and where its time went."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench import profile, trial
from bench.cluster import Row
from bench.meter import Meter, Sample


def group(*progress: tuple[int, float]) -> trial.Group:
    process: Any = None
    return trial.Group([trial.Running(process, Path(), list(progress))])


def meter(*samples: Sample) -> Meter:
    found = Meter()
    found.stop()
    found.samples = list(samples)
    return found


def test_rate_counts_from_a_tenth_to_the_last_output() -> None:
    """90 of 100 events in 3 s, of which the process was busy 1.5; start-up and what comes after are left out."""
    cpu = meter(Sample(0, 5.0, 10_000_000), Sample(10, 6.0, 30_000_000), Sample(14, 8.0, 20_000_000), Sample(99, 60, 1))
    rows = [Row(b"", b"", 11_500), Row(b"", b"", 13_000)]
    found = trial.measured(group((0, 1.0), (10, 10.0), (60, 11.0), (100, 12.0)), rows, cpu, 100, None)
    assert (found.events_per_s, found.events_per_cpu_s, found.rss_mb) == (30.0, 60.0, 30.0)


def test_progress_of_several_processes_adds_up() -> None:
    """Two processes that share the input are one curve."""
    one, two = group((5, 1.0), (9, 3.0)).members[0], group((4, 2.0), (11, 4.0)).members[0]
    assert trial.Group([one, two]).progress() == [(5, 1.0), (9, 2.0), (13, 3.0), (20, 4.0)]


def test_an_engine_that_still_reads_is_not_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows that close a minute and a half apart are both waited for, for events are read between them."""
    running, passed = group((0, 0.0)), [0.0]
    running.members[0].process = SimpleNamespace(poll=lambda: None)

    def sleep(seconds: float) -> None:
        passed[0] += seconds
        running.members[0].progress.append((min(1000, int(10 * passed[0])), passed[0]))

    def ends(*_: object) -> int:
        return 0 if passed[0] < 10 else 5 if passed[0] < 105 else 9

    monkeypatch.setattr(trial, "time", SimpleNamespace(monotonic=lambda: passed[0], sleep=sleep))
    monkeypatch.setattr(trial.kafka, "consumer", lambda *_: SimpleNamespace(close=lambda: None))
    task, cluster = trial.Task("in", 1000, "out", 9, lambda rows: None), SimpleNamespace(settings=None, ends=ends)
    assert trial._follow(cluster, task, running, 600.0) is None  # type: ignore[arg-type]
    assert 107 < passed[0] < 108


def test_meter_sees_cpu_and_memory_of_children() -> None:
    """A process that lets its child work has used the child's time."""
    work = "import time; b = bytearray(60_000_000); e = time.process_time() + 0.8\nwhile time.process_time() < e: pass"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {work!r}])"
    with subprocess.Popen([sys.executable, "-c", parent]) as process:
        found = Meter(process.pid)
        process.wait(30)
        found.stop()
    assert found.cpu_s(0, time.time()) > 0.2
    assert found.rss_mb() > 60


def test_profile_names_what_the_time_was_for() -> None:
    """A stack counts for its first purpose; waiting and start-up count for nothing."""
    raw = "\n".join(
        [
            "MainThread;work (resumable.py:1);EventsAgent.process (bench/jobs/crossfade_job.py:9) 30",
            "read_0;CursorWire.read (bench/jobs/cursor.py:1);read_avro (polars/io/avro.py:54) 50",
            "MainThread;run_forever (asyncio/base_events.py:1);EpollSelector.select (selectors.py:468) 900",
            "MainThread;<module> (x.py:1);_find_and_load (<frozen importlib._bootstrap>:1) 900",
            "MainThread;run_forever (asyncio/base_events.py:1) 20",
        ]
    )
    assert profile.summed(raw) == [("decode", 0.5), ("windows", 0.3), ("asyncio and Faust", 0.2)]
