"""Writes a generated log to Kafka at a steady rate, for benches that look at time and not at speed."""

from __future__ import annotations

import functools
import threading
import time
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.cluster import Cluster
from bench.generator import Log
from schemas import kafka

_TICK_S = 0.02


class Feed:
    """Writes while its `with` block lasts, from a thread of its own, until the log ends."""

    def __init__(self, here: Cluster, topic: str, log: Log, events_per_s: int) -> None:
        self._topic, self._log, self._rate = topic, log, events_per_s
        self._producer = kafka.producer(here.settings)
        self._values = log.values(0, log.frame.height)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._write, daemon=True, name="feed")
        self._accepted: list[tuple[int, float]] = []

    def __enter__(self) -> Feed:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join(10)
        self._producer.flush(10)

    @property
    def written(self) -> int:
        """Events acknowledged by Kafka."""
        return self._accepted[-1][0] if self._accepted else 0

    def accepted_at(self, numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """When the events with these places in the log were acknowledged (Unix time); infinity: not yet."""
        counts, times = np.array([(0, 0.0), *sorted(self._accepted), (1 << 62, np.inf)]).T
        found: npt.NDArray[np.float64] = times[np.searchsorted(counts, numbers + 1)]
        return found

    def _write(self) -> None:
        users, places = self._log.frame["user_id"].to_list(), self._log.frame["partition"].to_list()
        step, begun = max(1, int(self._rate * _TICK_S)), time.monotonic()
        for first in range(0, len(users), step):
            while (wait := begun + first / self._rate - time.monotonic()) > 0:
                self._producer.poll(min(wait, _TICK_S))
            if self._stopped.is_set():
                return
            last = min(first + step, len(users)) - 1
            for at in range(first, last + 1):
                told = functools.partial(self._acknowledged, last + 1) if at == last else None
                self._producer.produce(self._topic, self._values[at], users[at], places[at], on_delivery=told)
        while not self._stopped.is_set():
            self._producer.poll(_TICK_S)

    def _acknowledged(self, count: int, error: Any, _message: Any) -> None:
        if error is None:
            self._accepted.append((count, time.time()))
