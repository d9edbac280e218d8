"""Rows that fit the tables, with only what a test cares about spelled out."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from schemas.settings import Settings
from schemas.tables import table
from tests.sinks.conftest import free_port
from warehouse import schema
from warehouse.duck import OpenFile, open_file

_DEFAULTS: dict[str, Any] = {"STRING": "", "INT64": 0, "BOOL": False, "FLOAT64": 0.0, "BYTES": b""}
_TIME = datetime(2026, 1, 1, tzinfo=UTC)


class Shelf:
    """An own warehouse file of a test."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        settings.duckdb_file.parent.mkdir(parents=True)
        self.connection = open_file(settings.duckdb_file, read_only=False)
        schema.apply_duckdb(self.connection, settings.dataset)
        self.reader = OpenFile(self.connection, settings.dataset)

    def put(self, name: str, **values: Any) -> None:
        """Inserts one row; required columns that are not given are empty."""
        row = {
            c.name: _TIME if c.type == "TIMESTAMP" else _DEFAULTS.get(c.type) for c in table(name).columns if c.required
        }
        row |= values
        columns = ", ".join(f'"{column}"' for column in row)
        marks = ", ".join("?" * len(row))
        self.connection.execute(f"INSERT INTO {name} ({columns}) VALUES ({marks})", list(row.values()))

    def ask(self, sql: str) -> list[dict[str, Any]]:
        """Rows of a query in BigQuery's dialect."""
        return self.reader.query(sql).rows


@pytest.fixture
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(data_dir=tmp_path_factory.mktemp("data"), quack_port=free_port())


@pytest.fixture
def shelf(settings: Settings) -> Iterator[Shelf]:
    own = Shelf(settings)
    yield own
    own.connection.close()
