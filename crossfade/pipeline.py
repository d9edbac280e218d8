"""The processes of one run: how they are started, what they have to know, and the order in which they are stopped."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from crossfade import home, kafka, ports
from crossfade.board import Board
from crossfade.problem import ProblemError
from crossfade.stages import INTERNAL_PORT_FIELDS, SOURCE_PORT_FIELD, Stage, stages_of
from crossfade.supervisor import Supervised, last_words, stop
from schemas.kafka import wait_for_broker
from schemas.settings import HOME, Settings

KAFKA = "kafka"
SOURCE = "source"
KAFKA_START_S = 60.0


_SOURCE_PORT = 9104


def reserve_ports(settings: Settings) -> dict[str, int]:
    """Free ports for our own processes, as near as possible to those that are set; each worker has one."""
    counts = {"worker_metrics_port": settings.workers}
    return {n: ports.reserve(getattr(settings, n) or _SOURCE_PORT, counts.get(n, 1)) for n in INTERNAL_PORT_FIELDS}


class Interrupts:
    """Ctrl-C and SIGTERM: counted while things run, an exception while they are prepared."""

    def __init__(self) -> None:
        self.count = 0
        self.raises = True
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)

    def _on_signal(self, _number: int, _frame: object) -> None:
        self.count += 1
        if self.raises:
            raise KeyboardInterrupt

    def hurry(self) -> bool:
        """Whether somebody asked twice."""
        return self.count > 1


@dataclass
class Pipeline:
    """The processes of one run."""

    settings: Settings
    broker: Supervised | None = None
    stages: dict[str, Supervised] = field(default_factory=dict)
    source: Supervised | None = None

    def everything(self) -> Iterator[Supervised]:
        """All processes in the order of their start."""
        yield from (one for one in (self.broker, *self.stages.values(), self.source) if one is not None)

    def start_kafka(self, board: Board) -> None:
        """Starts the embedded Kafka and waits until it answers; raises ProblemError."""
        broker = kafka.Broker.prepare(self.settings, board.progress)
        log = self.settings.data_dir / "logs" / "kafka.log"
        self.broker = Supervised(KAFKA, broker.command(), log, broker.home)
        self.settings = self.settings.model_copy(update={"kafka_bootstrap_servers": broker.bootstrap_servers})
        board.say(f"Kafka: starting the embedded one at {broker.bootstrap_servers}")
        end = time.monotonic() + KAFKA_START_S
        while not (self.broker.alive and kafka.answers(broker.bootstrap_servers)):
            if news := self.broker.watch():
                board.news(KAFKA, news)
            if self.broker.restarts > 1 or time.monotonic() > end:
                raise ProblemError(
                    f"The embedded Kafka does not start from {broker.home}: "
                    f"{last_words(log) or 'it says nothing'} (log: {log}). "
                    "Start with --fresh to begin from nothing, or set KAFKA_BOOTSTRAP_SERVERS to use a Kafka of your "
                    "own."
                )
            time.sleep(0.05)
        wait_for_broker(self.settings)

    def add_stages(self, stages: Iterable[Stage], more: Mapping[str, str] | None = None) -> None:
        """Makes the processes of the stages; `watch` of each starts it. `more` is environment beyond the usual."""
        environment = {**self.environment(), **(more or {})}
        for stage in stages:
            self.stages[stage.name] = Supervised(
                stage.name,
                [sys.executable, "-m", stage.module],
                self.settings.data_dir / "logs" / f"{stage.name}.log",
                HOME,
                {**environment, **stage.environment(self.settings)},
                after_s=stage.after_s,
            )

    def addresses(self) -> dict[str, str]:
        """Where /metrics and /healthz of each stage are."""
        return {s.name: s.address(self.settings) for s in stages_of(self.settings) if s.name in self.stages}

    def endpoints(self) -> dict[str, Any]:
        """Settings that other commands need to find this run; one that is a source takes a port of its own."""
        ports = (name for name in INTERNAL_PORT_FIELDS if name != SOURCE_PORT_FIELD)
        names = ("kafka_bootstrap_servers", "web_port", "collector_port", "workers", *ports)
        return {name: getattr(self.settings, name) for name in names}

    def environment(self) -> dict[str, str]:
        """What the stages have to know beyond what they inherit: where this run put things."""
        known = {**self.endpoints(), SOURCE_PORT_FIELD: getattr(self.settings, SOURCE_PORT_FIELD)}
        stated = {f"CROSSFADE_{name.upper()}": str(value) for name, value in known.items()}
        return {
            **stated,
            "KAFKA_BOOTSTRAP_SERVERS": self.settings.kafka_bootstrap_servers,
            "CROSSFADE_DATA_DIR": str(self.settings.data_dir),
            "PYTHONUNBUFFERED": "1",
        }

    def stop(self, interrupts: Interrupts) -> None:
        """Stops what sends before what receives, and Kafka last; within 5 s."""
        senders = [one for one in (self.source, self.stages.get("collector")) if one is not None]
        rest = [one for one in self.stages.values() if one not in senders]
        last = [self.broker] if self.broker is not None else []
        stop(((senders, 0.5), (rest, 2.6), (last, 0.9)), interrupts.hurry)

    def note_children(self) -> None:
        """Keeps the list of processes for the next start."""
        home.note(self.settings.data_dir, [one.process.pid for one in self.everything() if one.process is not None])
