"""The rig of the fault tests: a pipeline of its own, fed slice by slice, and in the end compared row by row."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from pydantic import SecretStr

from crossfade import home, ports, topics
from crossfade.board import Board
from crossfade.chaos import END_MS
from crossfade.chaos_compare import Difference, compare
from crossfade.chaos_log import GeneratedLog, generate
from crossfade.drain import Drain, Verdict, balances
from crossfade.observe import read
from crossfade.pipeline import Pipeline, reserve_ports
from crossfade.stages import WORKER_MODULE, stages_of
from crossfade.supervisor import stop
from producers.door import Door
from schemas import kafka
from schemas import topics as topic_names
from schemas.event_time import WATERMARK_KEY
from schemas.settings import Settings

SECRET = "faults"
_PORT = 32_000
_UNASKED = ("tracks with an insight",)
"""Comparisons of stages that do not run here."""


class Rig:
    """Kafka, workers and a sink in a directory of their own."""

    def __init__(self, directory: Path, events: int, workers: int, seed: int, **changes: Any) -> None:
        own = Settings(
            data_dir=directory / "data",
            kafka_bootstrap_servers="",
            schema_registry_url="",
            workers=workers,
            worker_metrics_port=_PORT,
            sink_metrics_port=_PORT + 20,
            enrichment_metrics_port=_PORT + 40,
            simulator_metrics_port=_PORT + 60,
            quack_port=_PORT + 80,
            collector_port=ports.reserve(_PORT + 100),
            pseudonym_secrets={"default": SecretStr(SECRET)},
            snapshot_every_ms=300,
            **changes,
        )
        self.directory = directory
        self.board = Board(sys.stderr)
        self.log: GeneratedLog = generate(directory / "log", events, seed)
        self.pipeline = Pipeline(own.model_copy(update=reserve_ports(own)))
        self.environment = {
            "CROSSFADE_PSEUDONYM_SECRETS": f'{{"default": "{SECRET}"}}',
            "CROSSFADE_SNAPSHOT_EVERY_MS": "300",
            **{f"CROSSFADE_{name.upper()}": str(value) for name, value in changes.items()},
        }
        self._door: Door | None = None
        self._feed: Iterator[tuple[str, bytes]] = self._lines()
        self.sent = 0
        self.raw_md5: list[str] = []

    @property
    def settings(self) -> Settings:
        """Of the running pipeline."""
        return self.pipeline.settings

    def start_kafka(self) -> None:
        """Starts the broker and makes the topics."""
        self.pipeline.start_kafka(self.board)
        self.make_topics()

    def make_topics(self) -> None:
        topics.apply(self.settings)
        home.development_key(self.settings.dev_api_key_file)

    def start_stages(self, *modules: str) -> None:
        """Starts workers and sink, or only those of these modules, and waits until they tell their lag."""
        self.add_stages(*modules)
        self.until(self.ready, "every stage telling its lag")

    def add_stages(self, *modules: str) -> None:
        """Makes the processes, which `tick` starts."""
        wanted = modules or (WORKER_MODULE, "sinks")
        self.pipeline.add_stages([s for s in stages_of(self.settings) if s.module in wanted], self.environment)

    def ready(self) -> bool:
        return all(lag is not None for lag in self.lags().values())

    def lags(self) -> dict[str, int | None]:
        return {name: read(address).lag for name, address in self.pipeline.addresses().items()}

    def next_of(self, worker: str) -> dict[str, int]:
        """The partitions that a worker owns, and how far it is."""
        return dict(read(self.pipeline.addresses()[worker]).next)

    def tick(self) -> None:
        for one in self.pipeline.everything():
            if news := one.watch():
                self.board.news(one.name, news)
        time.sleep(0.05)

    def until(self, condition: Callable[[], object], what: str, seconds: float = 60) -> None:
        """Waits, starts again what died, and fails with what was said."""
        end = time.monotonic() + seconds
        while not condition():
            self.tick()
            assert time.monotonic() < end, f"not within {seconds:.0f} s: {what}; {self.lags()}"

    def pause(self, seconds: float) -> None:
        """Lets the pipeline run: for faults that are a matter of time, as a session that ends."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.tick()

    def _lines(self) -> Iterator[tuple[str, bytes]]:
        for files in zip(*self.log.files.values(), strict=True):
            for file in files:
                for number, line in enumerate(file.read_bytes().splitlines()):
                    yield f"{file.name}:{number}", line

    def send(self, share: float = 1.0) -> None:
        """Sends the log up to this share, through a door, and waits until Kafka has it."""
        if self._door is None:
            self._door = Door(self.settings, "replay")
        for place, line in self._feed:
            self._door.take(line, place)
            self.sent += 1
            if self.sent >= share * sum(self.log.lines.values()):
                break
        self._door.flush()

    def sending(self, share: float = 1.0, pause_s: float = 0.0) -> threading.Thread:
        """Sends up to this share in the background, a slice after the other; join it."""
        first = self.sent / sum(self.log.lines.values())

        def work() -> None:
            slices = 40
            for number in range(1, slices + 1):
                self.send(first + (share - first) * number / slices)
                time.sleep(pause_s / slices)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        return thread

    def wait_for(self, thread: threading.Thread, seconds: float = 150) -> None:
        self.until(lambda: not thread.is_alive(), "everything being sent", seconds)

    def produce(self, values: Sequence[bytes], key: bytes = b"raw") -> None:
        """Writes values to `listening-events` past the door, and waits until Kafka has them."""
        client: Producer = kafka.producer(self.settings)
        for value in values:
            client.produce(topic_names.EVENTS, value, key)
            self.raw_md5.append(hashlib.md5(value, usedforsecurity=False).hexdigest())
        assert client.flush(30) == 0

    def kill(self, *names: str) -> None:
        """Kill -9, all at the same moment; what was killed is started again."""
        victims = [one for one in self.pipeline.everything() if one.name in names]
        assert len(victims) == len(names)
        before = [one.restarts for one in victims]
        for one in victims:
            one.signal(signal.SIGKILL)
        self.until(
            lambda: all(one.restarts > n for one, n in zip(victims, before, strict=True)), f"the death of {names}"
        )

    def stop_one(self, name: str) -> None:
        """Ends a stage by SIGTERM, for good."""
        stop((([self.pipeline.stages[name]], 5.0),), lambda: False)

    def start_one(self, name: str) -> None:
        """Starts a stage that was stopped."""
        stage = self.pipeline.stages[name]
        stage.process, stage.stopping = None, False

    def finish(self, without: Sequence[str] = ()) -> None:
        """Ends the input, waits until all is in the warehouse, and compares every table."""
        client: Producer = kafka.producer(self.settings)
        mark = self.log.last_ms + END_MS
        for partition in kafka.partitions_of(client, topic_names.EVENTS):
            client.produce(topic_names.EVENTS, None, WATERMARK_KEY, partition, timestamp=mark)
        assert client.flush(30) == 0
        self.drain()
        self.stop_stages()
        found = [one for one in self.compare() if one.table not in without]
        assert len(found) >= 6
        assert next(one for one in found if one.table == "events").found > 0
        wrong = [one for one in found if one.lost or one.doubled]
        assert not wrong, "\n".join(
            f"{d.table}: {d.expected} expected, {d.found} found, {d.lost} lost, {d.doubled} doubled; {d.samples[:3]}"
            for d in found
        )

    def drain(self, seconds: float = 120) -> None:
        drain = Drain(time.monotonic())

        def done() -> bool:
            ledger = read(self.pipeline.addresses()["sinks"]).ledger
            verdict = drain.observe(time.monotonic(), True, self.lags(), ledger, self.sent)
            assert verdict in (Verdict.WAITING, Verdict.DRAINED), f"{verdict}: {self.lags()} {ledger}"
            return verdict is Verdict.DRAINED and ledger is not None and balances(ledger)

        self.until(done, "everything being in the warehouse", seconds)

    def stop_stages(self) -> None:
        stop(((list(self.pipeline.stages.values()), 10.0),), lambda: False)

    def compare(self) -> list[Difference]:
        """The tables of the stages that run here against the log and the oracle."""
        work = self.directory / "oracle"
        return [d for d in compare(self.settings, self.log, self.raw_md5, work) if d.table not in _UNASKED]

    def close(self) -> None:
        """Ends every process."""
        everything = [one for one in (*self.pipeline.stages.values(), self.pipeline.broker) if one is not None]
        stop(((everything, 0.5),), lambda: True)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Callable[..., Rig]]:
    """Makes rigs; with a running Kafka unless `kafka` says no. Nothing of them outlives the test."""
    rigs: list[Rig] = []

    def make(events: int = 20_000, workers: int = 1, seed: int = 5, *, kafka: bool = True, **changes: Any) -> Rig:
        one = Rig(tmp_path / f"rig-{len(rigs)}", events, workers, seed, **changes)
        rigs.append(one)
        if kafka:
            one.start_kafka()
        return one

    yield make
    for one in rigs:
        one.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[Path, int], Path]]:
    """Mounts a tmpfs of so many MB; returns a file on it to fill it with. Skips where that is forbidden."""
    mounted: list[Path] = []

    def mount(place: Path, size_mb: int) -> Path:
        place.mkdir(parents=True, exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "tmpfs", str(place)]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=20)
        except (OSError, subprocess.SubprocessError) as error:
            told = getattr(error, "stderr", "") or str(error)
            pytest.skip(f"a tmpfs cannot be mounted here ({told.strip()}): it takes root on Linux")
        mounted.append(place)
        return place / "ballast"

    yield mount
    for place in mounted:
        subprocess.run(["umount", "--lazy", str(place)], check=False, timeout=20)


def fill(ballast: Path, leave_bytes: int) -> None:
    """Fills the disk of the file but for so many bytes, others writing or not."""
    with ballast.open("wb", buffering=0) as file:
        while (free := shutil.disk_usage(ballast.parent).free) > leave_bytes:
            with contextlib.suppress(OSError):
                os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), max((free - leave_bytes) // 2, 4096))
