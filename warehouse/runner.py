"""The one way to ask the warehouse: SQL in BigQuery's dialect in, rows out, whichever warehouse it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import polars as pl

from schemas.settings import Settings
from warehouse.answer import Answer, WarehouseError, to_csv, to_json
from warehouse.duck import DuckReader

__all__ = ["Answer", "Bulk", "Reader", "WarehouseError", "reader", "to_csv", "to_json"]


class Reader(Protocol):
    """Answers questions. Safe to share between threads; nothing can be changed through it."""

    def query(self, sql: str, params: Mapping[str, Any] | None = None) -> Answer:
        """Answers one SELECT in BigQuery's dialect; `@name` is taken from `params`.

        Tables without a dataset are those of `settings.dataset`. Raises WarehouseError with a plain message.
        """
        ...


class Bulk(Reader, Protocol):
    """A reader that also gives many rows at once."""

    def frame(self, sql: str, params: Mapping[str, Any] | None = None) -> pl.DataFrame:
        """Like `query`, as a data frame: for hundreds of thousands of rows."""
        ...


def reader(settings: Settings) -> Bulk:
    """The reader of the configured warehouse; connects with the first question."""
    if settings.warehouse == "bigquery":
        from warehouse.bigquery import BigQueryReader  # noqa: PLC0415 - 0.5 s of imports that DuckDB does not need

        return BigQueryReader(settings)
    return DuckReader(settings)
