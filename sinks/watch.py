"""How far behind the sink is, and the ledger: asked again and again beside the loop, for /healthz and /metrics."""

from __future__ import annotations

import threading
from typing import Any

import structlog

from schemas import metrics
from schemas.kafka import KafkaUnavailableError, admin
from schemas.settings import Settings
from sinks.ledger import counts, ends_of, figures, lags, sink_topics
from warehouse.runner import Reader, WarehouseError

EVERY_S = 0.5

_log = structlog.get_logger()


class Watch:
    """A thread that keeps lag and ledger at most a second old; both are None while Kafka or the warehouse is away."""

    def __init__(self, settings: Settings, source: Reader) -> None:
        self._source = source
        self._client = admin(settings)
        self._topics = sink_topics()
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
        found = counts(self._source)
        ends = ends_of(self._client, self._topics)
        ledger, lag = figures(found, ends), lags(found, ends)
        for topic, records in lag.items():
            metrics.SINK_LAG.labels(topic).set(records)
        for entry, number in ledger.as_dict().items():
            metrics.LEDGER.labels(entry).set(number)
        self._state = {"lag": sum(lag.values()), "ledger": ledger.as_dict()}

    def stop(self) -> None:
        """Ends the thread."""
        self._stopped.set()
        self._thread.join(2)
