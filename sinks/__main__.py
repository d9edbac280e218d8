"""`python -m sinks`: everything in Kafka that has a table, loaded into the warehouse."""

from __future__ import annotations

import signal
import sys
import threading

from schemas.kafka import KafkaUnavailableError, wait_for_broker
from schemas.settings import Settings, settings
from schemas.telemetry import configure_logging, serve
from sinks.runner import Sink
from sinks.target import SinkError, Target
from sinks.watch import Watch
from warehouse.runner import WarehouseError


def open_target(own: Settings) -> Target:
    """The configured warehouse; raises SinkError."""
    if own.warehouse == "bigquery":
        from sinks.bigquery_target import BigQueryTarget  # noqa: PLC0415 - 0.5 s of imports that DuckDB does not need

        return BigQueryTarget(own)
    from sinks.duckdb_target import DuckDbTarget  # noqa: PLC0415 - as above

    return DuckDbTarget(own)


def main() -> int:
    """Runs the sink until SIGTERM or SIGINT; the exit status."""
    own = settings()
    log = configure_logging("sinks", own.log_level)
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    try:
        wait_for_broker(own)
        sink = Sink(own, lambda: open_target(own))
        watch = Watch(own, sink, sink.now_ms)
        serve(own.stage_host, own.sink_metrics_port, watch.health)
        sink.run(stopped)
        watch.stop()
    except (KafkaUnavailableError, SinkError, WarehouseError) as error:
        log.error(str(error))
        return 1
    except OSError as error:
        log.error(f"The sink cannot serve /metrics on port {own.sink_metrics_port}: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
