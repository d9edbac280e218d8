"""columnar://host:port - Faust's aiokafka driver, whose agents receive whole record batches, not single records."""

from __future__ import annotations

from faust.transport.drivers import aiokafka as driver

from stream_processors.transport.consumer import BatchSchema, ColumnarConsumer
from stream_processors.transport.records import EventBatch, RecordBatch

__all__ = ["BatchSchema", "EventBatch", "RecordBatch", "Transport"]


class Transport(driver.Transport):  # type: ignore[misc]  # Faust's classes have no types
    """The transport that `columnar://` stands for."""

    Consumer = ColumnarConsumer
