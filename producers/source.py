"""What simulator and replay have in common: stop signals, pace, metrics, and the summary at the end."""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, overload

from confluent_kafka import KafkaException

from producers.door import Door, now_ms
from producers.door import Source as SourceName
from producers.end_of_input import end_input
from schemas import kafka, telemetry, topics
from schemas.kafka import KafkaUnavailableError
from schemas.settings import Settings

D = TypeVar("D", bound=Door)

CHUNK = 1_000
"""Events between two looks at the clock, the stop signal and the delivery reports."""


_BROKER_TIMEOUT_S = 30.0


class Source:
    """A run that puts events through a door until its input ends or somebody asks it to stop."""

    def __init__(self, settings: Settings, stage: str) -> None:
        self.settings = settings
        self.log = telemetry.configure_logging(stage, settings.log_level)
        self._stage, self._stop, self._began_s = stage, threading.Event(), time.monotonic()
        self.door: Door | None = None
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stop.set())

    @property
    def stopping(self) -> bool:
        """Somebody asked for the end."""
        return self._stop.is_set()

    def sleep(self, seconds: float) -> None:
        """Waits, not longer than until somebody asks for the end."""
        self._stop.wait(seconds)

    def serve(self) -> None:
        """Serves /metrics and /healthz; raises OSError when the port is taken."""
        telemetry.serve(self.settings.stage_host, self.settings.simulator_metrics_port, self._health)

    @overload
    def open_door(self, name: SourceName) -> Door: ...

    @overload
    def open_door(self, name: SourceName, kind: type[D]) -> D: ...

    def open_door(self, name: SourceName, kind: type[Door] = Door) -> Door:
        """A door, once Kafka answers and has the topics; raises KafkaUnavailableError after 30 s, or when stopped."""
        end = time.monotonic() + _BROKER_TIMEOUT_S
        while True:
            try:
                kafka.wait_for_broker(self.settings, timeout_s=0)
                break
            except KafkaUnavailableError:
                servers = self.settings.kafka_bootstrap_servers
                if not servers:
                    raise
                if self.stopping or time.monotonic() > end:
                    raise KafkaUnavailableError(
                        f"No Kafka answers at {servers}: is it running, and is KAFKA_BOOTSTRAP_SERVERS right?"
                    ) from None
        door = self.door = kind(self.settings, name, interrupted=lambda: self.stopping)
        for topic in (topics.EVENTS, topics.DEAD_LETTERS):
            kafka.partitions_of(door.producer, topic)
        return door

    def finish(self, door: Door, end_of_input: bool) -> None:
        """Waits for every acknowledgement; with `end_of_input`, then closes the open windows."""
        door.flush()
        if end_of_input:
            end_input(door, self.settings)

    def summary(self, door: Door, **more: Any) -> None:
        """The last line on stdout: one JSON object. `accepted` counts everything taken in, dead letters included."""
        tally = door.tally
        told: Mapping[str, Any] = {
            "accepted": tally.accepted,
            "events": tally.events,
            "dead_lettered": tally.dead_lettered.total(),
            "reasons": dict(sorted(tally.dead_lettered.items())),
            "seconds": round(time.monotonic() - self._began_s, 1),
            "stopped": self.stopping,
            **more,
        }
        print(json.dumps(told), flush=True)

    def _health(self) -> dict[str, Any]:
        tally = self.door.tally if self.door else None
        return {
            "ok": True,
            "stage": self._stage,
            "accepted": tally.accepted if tally else 0,
            "dead_lettered": tally.dead_lettered.total() if tally else 0,
        }


class Pace:
    """When an event may go: `rate` events per second of our clock."""

    def __init__(self, rate: float) -> None:
        self._rate, self._began_ms = rate, now_ms()

    def due(self) -> int:
        """How many events may have gone by now."""
        return int((now_ms() - self._began_ms) / 1000 * self._rate) + 1


def run(stage: str, settings: Settings, work: Callable[[Source], None]) -> int:
    """Runs a source and gives its exit status; a foreseeable problem is one line on stderr."""
    source = Source(settings, stage)
    try:
        source.serve()
        work(source)
    except (KafkaUnavailableError, KafkaException, ValueError, OSError) as error:
        source.log.error(str(error))
        return 1
    sys.stdout.flush()
    return 0
