"""Asks every stage how it is, by /healthz and /metrics, each from a thread of its own, so that none delays another."""

from __future__ import annotations

import http.client
import json
import threading
import time
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from crossfade import kafka

EVERY_S = 0.5
TIMEOUT_S = 2.0
KAFKA_SCHEME = "kafka://"


@dataclass(frozen=True)
class Reading:
    """What a stage said, and when (monotonic seconds).

    `sums`: samples added up over their labels, by sample name. `next`: of a worker, the first offset that it has not
    yet counted, by `topic/partition`, for the partitions that it owns.
    """

    ok: bool
    lag: int | None = None
    ledger: Mapping[str, int] | None = None
    sums: Mapping[str, float] = field(default_factory=dict)
    at: float = 0.0
    next: Mapping[str, int] = field(default_factory=dict)


SILENT = Reading(ok=False)
"""Nothing was heard."""


class Observer:
    """The latest reading of every stage, at most a second old while the stage answers."""

    def __init__(self, addresses: Mapping[str, str]) -> None:
        self._latest = dict.fromkeys(addresses, SILENT)
        self._stopped = threading.Event()
        for name, address in addresses.items():
            threading.Thread(target=self._run, args=(name, address), daemon=True, name=f"observe {name}").start()

    def __getitem__(self, name: str) -> Reading:
        return self._latest.get(name, SILENT)

    def _run(self, name: str, address: str) -> None:
        while not self._stopped.is_set():
            self._latest[name] = read(address)
            self._stopped.wait(EVERY_S)

    def stop(self) -> None:
        """Asks no more."""
        self._stopped.set()


def read(address: str) -> Reading:
    """One reading; SILENT when the stage does not answer in time or not in its form. Of Kafka: whether it answers."""
    at = time.monotonic()
    if address.startswith(KAFKA_SCHEME):
        return Reading(kafka.answers(address.removeprefix(KAFKA_SCHEME)), at=at)
    try:
        health = json.loads(_get(f"{address}/healthz"))
        sums = totals(_get(f"{address}/metrics").decode())
    except (OSError, ValueError, http.client.HTTPException):
        return SILENT
    if not isinstance(health, dict):
        return SILENT
    return Reading(
        health.get("ok") is True,
        _count(health.get("lag")),
        _ledger(health.get("ledger")),
        sums,
        at,
        _next(health.get("next")),
    )


def _get(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:  # noqa: S310 - our own stages, by http
            body: bytes = answer.read(4 << 20)
    except urllib.error.HTTPError as refusal:  # 503 says why in its body
        body = refusal.read(1 << 20)
    return body


def totals(text: str) -> dict[str, float]:
    """Samples of a Prometheus exposition, added up over their labels."""
    sums: dict[str, float] = defaultdict(float)
    for family in text_string_to_metric_families(text):
        if family.name.startswith("crossfade_"):
            for sample in family.samples:
                if not sample.name.endswith(("_bucket", "_created")):
                    sums[sample.name] += sample.value
    return dict(sums)


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def _next(value: Any) -> dict[str, int]:
    if not isinstance(value, dict):
        return {}
    return {place: offset or 0 for place, offset in value.items() if offset is None or isinstance(offset, int)}


def _ledger(value: Any) -> dict[str, int] | None:
    if isinstance(value, dict) and all(isinstance(number, int) for number in value.values()):
        return value
    return None
