"""CPU time and memory of a process and its children, sampled from /proc by a thread."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from dataclasses import dataclass

import psutil

_EVERY_S = 0.05
_LOOK_FOR_CHILDREN_S = 0.5


@dataclass(frozen=True)
class Sample:
    """At `time` (Unix seconds) the processes had used `cpu_s` and held `rss` bytes."""

    time: float
    cpu_s: float
    rss: int


class Meter:
    """Samples from its making until `stop`."""

    def __init__(self, *pids: int) -> None:
        self.samples: list[Sample] = []
        self._roots = [psutil.Process(pid) for pid in pids]
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="meter")
        self._thread.start()

    def stop(self) -> None:
        """Ends the sampling."""
        self._stopped.set()
        self._thread.join(5)

    def _watch(self) -> None:
        family: dict[int, psutil.Process] = {}
        spent: dict[int, float] = {}
        looked = 0.0
        while not self._stopped.wait(_EVERY_S):
            now = time.time()
            if now - looked > _LOOK_FOR_CHILDREN_S:
                family, looked = self._family(), now
            rss = 0
            for pid, process in family.items():
                try:
                    with process.oneshot():
                        used = process.cpu_times()
                        spent[pid] = used.user + used.system
                        rss += process.memory_info().rss
                except psutil.Error:
                    continue
            self.samples.append(Sample(now, sum(spent.values()), rss))

    def _family(self) -> dict[int, psutil.Process]:
        found = {}
        for root in self._roots:
            try:
                for process in (root, *root.children(recursive=True)):
                    found[process.pid] = process
            except psutil.Error:
                continue
        return found

    def cpu_s(self, start: float, end: float) -> float:
        """CPU seconds between two times."""
        return self._at(end) - self._at(start)

    def rss_mb(self, end: float = float("inf"), start: float = 0.0) -> float:
        """Peak memory between two times, in MB."""
        return max((sample.rss for sample in self.samples if start <= sample.time <= end), default=0) / 1e6

    def _at(self, moment: float) -> float:
        if not self.samples:
            return 0.0
        after = bisect_left(self.samples, moment, key=lambda sample: sample.time)
        if after == 0:
            return self.samples[0].cpu_s
        if after == len(self.samples):
            return self.samples[-1].cpu_s
        a, b = self.samples[after - 1], self.samples[after]
        return a.cpu_s + (b.cpu_s - a.cpu_s) * (moment - a.time) / (b.time - a.time)
