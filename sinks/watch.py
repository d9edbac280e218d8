"""How far behind the sink is, and the ledger: asked again and again beside the loop, for /healthz and /metrics."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import structlog

from schemas import metrics, topics
from schemas.kafka import KafkaUnavailableError, admin
from schemas.settings import Settings
from sinks.ledger import counts, ends_of, figures, lags, sink_topics
from sinks.target import Place, Progress
from warehouse.runner import Reader, WarehouseError

EVERY_S = 0.5
LEDGER_EVERY_S = {"duckdb": 0.0, "bigquery": 60.0}
"""BigQuery is paid per question: there the ledger is asked once a minute, and whenever everything has been loaded."""

_log = structlog.get_logger()


class Watch:
    """A thread that keeps lag and ledger fresh (see EVERY_S); None while Kafka or the warehouse is away."""

    def __init__(self, settings: Settings, source: Reader, progress: Callable[[], Mapping[Place, Progress]]) -> None:
        self._source, self._progress = source, progress
        self._client = admin(settings)
        self._topics = sink_topics()
        self._ledger_every_s = LEDGER_EVERY_S[settings.warehouse]
        self._asked_at = float("-inf")
        self._asked_for: Mapping[Place, Progress] = {}
        self._state: dict[str, Any] = {"lag": None, "ledger": None}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="watch")
        self._thread.start()

    def health(self) -> dict[str, Any]:
        """What /healthz answers."""
        return {"ok": True, "stage": "sinks", **self._state}

    def _run(self) -> None:
        while not self._stopped.wait(EVERY_S):
            try:
                self._look()
            except (KafkaUnavailableError, WarehouseError) as error:
                self._state = {"lag": None, "ledger": None}
                _log.debug("no ledger now", why=str(error))
            except Exception as error:  # a thread that died would leave an old figure standing
                self._state = {"lag": None, "ledger": None}
                _log.warning("no ledger now", why=repr(error))

    def _look(self) -> None:
        progress = self._progress()
        due = time.monotonic() - self._asked_at >= self._ledger_every_s
        ends = ends_of(self._client, self._topics)
        lag = lags(progress, ends)
        drained = not any(lag.values()) and progress != self._asked_for
        ledger = self._state["ledger"]
        if progress and (due or drained or ledger is None):
            found = counts(self._source)  # before the offsets, so that nothing seems loaded that was not accepted
            ledger = figures(found, ends_of(self._client, [topics.EVENTS])).as_dict()
            self._asked_at, self._asked_for = time.monotonic(), progress
            for entry, number in ledger.items():
                metrics.LEDGER.labels(entry).set(number)
        for topic, records in lag.items():
            metrics.SINK_LAG.labels(topic).set(records)
        self._state = {"lag": sum(lag.values()) if progress else None, "ledger": ledger}

    def stop(self) -> None:
        """Ends the thread."""
        self._stopped.set()
        self._thread.join(2)
