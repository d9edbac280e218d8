"""What a sink needs from a warehouse: the one interface behind which DuckDB and BigQuery stand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

import polars as pl

from schemas import topics
from schemas.tables import Table
from warehouse.runner import Reader

Place = tuple[str, int]
"""Topic and partition."""


IMPORTED = "import"
"""The source of histories; they may be imported again after months."""


class SinkError(RuntimeError):
    """The sink cannot go on; the message says what to do."""


class WarehouseAwayError(SinkError):
    """The warehouse takes nothing for now (locked, no disk, out of reach): waiting helps, Kafka keeps the records."""


@dataclass(frozen=True)
class Progress:
    """How far the sink is in one partition; see warehouse.schema.PROGRESS for the fields."""

    first_offset: int
    next_offset: int
    controls: int = 0
    broken: int = 0
    expired: int = 0
    clock_ms: int = 0


@dataclass(frozen=True)
class Commit:
    """One step: new rows by table, rows of `ledger`, and the progress of the partitions they came from."""

    rows: Mapping[str, pl.DataFrame]
    ledger: pl.DataFrame
    progress: Mapping[Place, Progress]
    deduplicated: Mapping[str, int] = field(default_factory=dict)


def from_offsets(first: Mapping[int, int]) -> str:
    """A condition in SQL: the row's record is at or above the `first` offset of its partition, or it was rebuilt."""
    cases = " ".join(f"WHEN {int(partition)} THEN {int(offset)}" for partition, offset in first.items())
    return f"(kafka_offset < 0 OR kafka_offset >= CASE kafka_partition {cases} ELSE 0 END)" if cases else "TRUE"


def key_columns(table: Table) -> list[str]:
    """Columns that tell one row of a table from all others.

    Tenant and id; for `tracks` also the content, so that a change is a new row and `current_tracks` shows the newest.
    """
    if table.topic == topics.TRACK_CATALOGUE:
        return ["tenant", "track_id", "track_name", "artist_name", "album_name", "duration_ms", "isrc"]
    return ["tenant", table.id]


class Target(Protocol):
    """A warehouse as the sink writes it. Used by one thread."""

    @property
    def reader(self) -> Reader:
        """Answers questions about the warehouse; may be used by other threads."""
        ...

    def progress(self) -> dict[Place, Progress]:
        """What the last commit said."""
        ...

    def orphans(self, progress: Mapping[Place, Progress]) -> Mapping[str, pl.DataFrame]:
        """Rows of a step that was not completed, as (kafka_partition, kafka_offset) by table."""
        ...

    def keys(self, table: Table, since: datetime | None, first: Mapping[int, int]) -> Iterator[pl.DataFrame]:
        """Key columns of the rows at or above the `first` offset of their partition, in batches, for `SeenIds`.

        With `since` only rows received at or after it or imported, and columns `received_at` and `source`.
        """
        ...

    def held(self, table: Table, keys: pl.DataFrame) -> pl.DataFrame:
        """Which of these keys the table has. `keys` has the key columns and the table's time.

        Time is a hint: the same key with another time is found too, more slowly.
        """
        ...

    def commit(self, step: Commit) -> None:
        """Makes the step visible as a whole, once, whatever happens.

        Raises WarehouseAwayError when it cannot now, SinkError when it never can. The target is of no use then: what
        became of the step is known to the next one that is opened.
        """
        ...

    def close(self) -> None:
        """Ends cleanly; what is committed stays."""
        ...
