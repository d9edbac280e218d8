"""`python -m enrichment`: the enrichment process."""

from __future__ import annotations

import signal
import sys
import threading
import time
from typing import Any

from confluent_kafka import KafkaException

from enrichment.runner import Enrichment, now_ms
from schemas.kafka import KafkaUnavailableError, wait_for_broker
from schemas.settings import settings
from schemas.telemetry import configure_logging, serve


class _Lag:
    """The lag as it was at most half a second ago; an unanswered look-up leaves the last figure."""

    def __init__(self, enrichment: Enrichment) -> None:
        self.records: int | None = None
        self._enrichment = enrichment
        threading.Thread(target=self._watch, daemon=True, name="lag").start()

    def _watch(self) -> None:
        while True:
            try:
                self.records = self._enrichment.lag()
            except KafkaException:
                self.records = None
            time.sleep(0.5)


def main() -> int:
    """Runs until SIGTERM; returns the exit status."""
    current = settings()
    log = configure_logging("enrichment", current.log_level)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        wait_for_broker(current)
        enrichment = Enrichment(current, now_ms)
        lag = _Lag(enrichment)

        def health() -> dict[str, Any]:
            return {"ok": True, "stage": "enrichment", "lag": lag.records, "asks": enrichment.insights.asked}

        serve(current.stage_host, current.enrichment_metrics_port, health)
        enrichment.run(stop)
        enrichment.close()
    except (KafkaUnavailableError, KafkaException) as error:
        log.error("enrichment_stops", problem=str(error))
        return 1
    except OSError as error:
        log.error("port_in_use", port=current.enrichment_metrics_port, problem=str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
