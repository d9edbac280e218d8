"""How far behind the sink is, and the ledger: asked again and again beside the loop, for /healthz and /metrics."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import structlog

from schemas import metrics, topics
from schemas.kafka import KafkaUnavailableError, admin
from schemas.settings import Settings
from sinks.audit import EVERY_S as AUDIT_EVERY_S
from sinks.audit import Audit, oldest_unread_ms
from sinks.ledger import Counts, counts, ends_of, figures, lags, sink_topics
from sinks.target import Place, Progress
from warehouse.runner import Reader, WarehouseError

EVERY_S = 0.5
LEDGER_EVERY_S = {"duckdb": 0.0, "bigquery": 60.0}
"""BigQuery is paid per question: there the ledger is asked once a minute, and whenever everything has been loaded."""

_log = structlog.get_logger()


class Watched(Protocol):
    """What is looked at; asked by another thread than the one that works."""

    @property
    def reader(self) -> Reader | None:
        """Answers questions about the warehouse; None while it is away."""
        ...

    @property
    def waiting_for(self) -> str:
        """What holds up the sink and why, in one line; empty when nothing does."""
        ...

    def progress(self) -> Mapping[Place, Progress]:
        """How far the warehouse is."""
        ...


class Watch:
    """A thread that keeps lag and ledger fresh (see EVERY_S), and one that audits the ledger less often.

    Lag and ledger are None while Kafka is away, and until the warehouse has answered once. While the warehouse takes no
    rows its last counts stay true, and the ledger tells what waits in Kafka.
    """

    def __init__(self, settings: Settings, sink: Watched, now_ms: Callable[[], int]) -> None:
        self._settings, self._sink = settings, sink
        self._audit = Audit(settings, now_ms)
        self._audit_every_s = AUDIT_EVERY_S[settings.warehouse]
        self._client = admin(settings)  # may be shared between threads
        self._topics = sink_topics()
        self._ledger_every_s = LEDGER_EVERY_S[settings.warehouse]
        self._asked_at = float("-inf")
        self._asked_for: Mapping[Place, Progress] = {}
        self._counts: Counts | None = None
        self._state: dict[str, Any] = {"lag": None, "ledger": None}
        self._stopped = threading.Event()
        self._threads = [
            threading.Thread(target=target, daemon=True, name=name)
            for name, target in (("watch", self._run), ("audit", self._run_audit))
        ]
        for thread in self._threads:
            thread.start()

    def health(self) -> dict[str, Any]:
        """What /healthz answers: not ok while the sink waits for the warehouse, and `waiting_for` says why."""
        held_up = self._sink.waiting_for
        return {"ok": not held_up, "stage": "sinks", "waiting_for": held_up or None, **self._state}

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
        progress, source = self._sink.progress(), self._sink.reader
        due = time.monotonic() - self._asked_at >= self._ledger_every_s
        ends = ends_of(self._client, self._topics)
        lag = lags(progress, ends)
        drained = not any(lag.values()) and progress != self._asked_for
        ledger = self._state["ledger"]
        asks = source is not None and bool(progress) and (due or drained or ledger is None)
        if source is not None and asks:
            self._counts = counts(source)  # before the offsets, so that nothing seems loaded that was not accepted
            ends = ends_of(self._client, [topics.EVENTS])
            self._asked_at, self._asked_for = time.monotonic(), progress
        if self._counts is not None and (asks or source is None):
            ledger = figures(self._counts, ends).as_dict()
            for entry, number in ledger.items():
                metrics.LEDGER.labels(entry).set(number)
        for topic, records in lag.items():
            metrics.SINK_LAG.labels(topic).set(records)
        self._state = {"lag": sum(lag.values()) if progress else None, "ledger": ledger}

    def _run_audit(self) -> None:
        while not self._stopped.wait(self._audit_every_s):
            try:
                if (source := self._sink.reader) is not None:
                    found, ends = counts(source), ends_of(self._client, [topics.EVENTS])
                    oldest_ms = oldest_unread_ms(self._settings, found.progress, ends)
                    self._audit.look(source, figures(found, ends), oldest_ms)
            except (KafkaUnavailableError, WarehouseError) as error:
                _log.debug("no audit now", why=str(error))
            except Exception as error:  # as above
                _log.warning("no audit now", why=repr(error))

    def stop(self) -> None:
        """Ends the threads."""
        self._stopped.set()
        for thread in self._threads:
            thread.join(1)
