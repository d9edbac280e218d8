"""`crossfade rebuild`: windows, plays, sessions and dead letters computed again from the log, held against the rows.

What is the same stays untouched, byte for byte; rows that are missing or differ are replaced, rows that the log does
not explain are taken out, all in one transaction. Rows are only written while the pipeline is stopped: the sink owns
the warehouse. Columns that say when and by which record a row came (`emitted_at`, `kafka_*`) are not compared.
"""

from __future__ import annotations

import contextlib
import hashlib
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from crossfade import home
from crossfade.board import Board
from crossfade.pipeline import Pipeline
from crossfade.problem import ProblemError
from crossfade.recompute import Recomputation, Shelf, from_kafka, from_table
from crossfade.supervisor import stop
from schemas import topics
from schemas.kafka import admin
from schemas.settings import Settings
from schemas.tables import Table, table
from sinks.ledger import counts, ends_of
from sinks.target import Place, key_columns
from warehouse.duck import is_locked, open_file
from warehouse.runner import Bulk, reader

TABLES = ("window_metrics", "window_rollups", "plays", "sessions", "dead_letters")
_VOLATILE = ("emitted_at", "kafka_partition", "kafka_offset")
_ONLY = {
    "window_metrics": "emit = 'final'",
    "dead_letters": f"topic = '{topics.EVENTS}'",
}
_STEP = timedelta(minutes=10)
_KAFKA_STOP_S = 20.0
NOT_OF_KAFKA = -1
"""Partition and offset of a row that was rebuilt."""


@dataclass
class Comparison:
    """Rows of one table within the range: how many, their digest, and how the warehouse differs."""

    rows: int = 0
    sha256: str = ""
    stored_rows: int = 0
    stored_sha256: str = ""
    missing: int = 0
    different: int = 0
    unexplained: int = 0

    @property
    def same(self) -> bool:
        """Whether the warehouse has the same bytes."""
        return self.sha256 == self.stored_sha256


@dataclass
class Outcome:
    """What was found, by table. `written`: whether the warehouse has the computed rows now."""

    start: datetime
    end: datetime
    tables: dict[str, Comparison] = field(default_factory=dict)
    written: bool = False

    @property
    def same(self) -> bool:
        """Whether every table has the same bytes."""
        return all(found.same for found in self.tables.values())

    def as_dict(self) -> dict[str, Any]:
        """As JSON knows it."""
        tables = {name: {**asdict(found), "same": found.same} for name, found in self.tables.items()}
        ends = {"from": self.start.isoformat(), "to": self.end.isoformat()}
        return {**ends, **tables, "same": self.same, "written": self.written}


def moment(text: str) -> datetime:
    """A time in ISO 8601, UTC where no zone is said; raises ProblemError."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ProblemError(f"{text} is no time: it is ISO 8601, like 2026-01-15T09:00:00Z.") from None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def run(settings: Settings, start: datetime, end: datetime, write: bool | None) -> Outcome:
    """Computes and compares, and writes: where it differs (None), always (True), never (False).

    While the sink holds the warehouse nothing is written, which is said on standard error. Where no pipeline runs on
    the data directory, the embedded Kafka is started for as long as it takes. Raises ProblemError,
    KafkaUnavailableError and WarehouseError.
    """
    if start >= end:
        raise ProblemError("--from has to be before --to.")
    if settings.warehouse == "bigquery" and write is not False:
        raise ProblemError("Rebuilt rows are written to DuckDB only: use --no-write, and load what is missing by hand.")
    if settings.warehouse == "duckdb" and not settings.duckdb_file.exists():
        raise ProblemError(f"There is no warehouse at {settings.duckdb_file} yet: there is nothing to rebuild.")
    with _kafka(settings) as own, tempfile.TemporaryDirectory(prefix="rebuild-", dir=settings.data_dir) as folder:
        source = reader(own)
        shelf = Shelf(own, Path(folder))
        outcome = Outcome(start, min(end, _recompute(own, source, shelf)))
        for name in TABLES:
            outcome.tables[name] = _compare(source, shelf, table(name), outcome.start, outcome.end)
        if write or (write is None and not outcome.same):
            _write(own, shelf, outcome)
        return outcome


@contextlib.contextmanager
def _kafka(settings: Settings) -> Iterator[Settings]:
    """Settings with a Kafka that answers: the one that runs, or the embedded one, started for this."""
    if settings.kafka_bootstrap_servers:
        yield settings
        return
    with home.held(settings.data_dir):
        pipeline, board = Pipeline(settings), Board(sys.stderr)
        try:
            pipeline.start_kafka(board)
            yield pipeline.settings
        finally:
            board.close()
            if pipeline.broker is not None:
                stop([([pipeline.broker], _KAFKA_STOP_S)], lambda: False)


def _recompute(settings: Settings, source: Bulk, shelf: Shelf) -> datetime:
    """Fills the shelf; up to when it can be held against the warehouse."""
    progress = counts(source).progress
    ends = {place: found for place, found in ends_of(admin(settings), [topics.EVENTS]).items() if place in progress}
    kept: dict[Place, range] = {}
    deleted: dict[Place, range] = {}
    for place, (earliest, _) in ends.items():
        own = progress[place]
        kept[place] = range(max(earliest, own.first_offset), own.next_offset)
        if earliest > own.first_offset:
            deleted[place] = range(own.first_offset, min(earliest, own.next_offset))
    work = Recomputation(settings, len(ends), shelf)
    if deleted:
        print("Kafka has deleted the beginning: it comes from the table events.", file=sys.stderr)
    for stretches in (from_table(settings, source, deleted), from_kafka(settings, kept)):
        for stretch in stretches:
            work.add(stretch)
    work.end()
    if all(progress[place].next_offset == end for place, (_, end) in ends.items()):
        return datetime.max.replace(tzinfo=UTC)
    open_ms = max(settings.play_timeout_ms, settings.session_gap_ms)
    border = datetime.fromtimestamp(max(work.final_before - open_ms, 0) / 1000, UTC)
    print(f"Events go on coming: what is after {border.isoformat()} may change yet and is left out.", file=sys.stderr)
    return border


def _columns(of: Table) -> list[str]:
    return [column.name for column in of.columns if column.name not in _VOLATILE]


def _steps(source: Bulk, of: Table, start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
    """The range in steps, from the first row that the warehouse has; one step each for what is before and after."""
    sql = f"SELECT MIN(`{of.time}`) AS first, MAX(`{of.time}`) AS last FROM {of.name}"  # noqa: S608 - schemas.tables
    (told,) = source.query(sql).rows
    first, last = max(told["first"] or start, start), min(told["last"] or start, end)
    borders = [start, *([first] if start < first < end else [])]
    while borders[-1] < last:
        borders.append(min(borders[-1] + _STEP, end))
    yield from zip(borders, [*borders[1:], end], strict=True)


def _compare(source: Bulk, shelf: Shelf, of: Table, start: datetime, end: datetime) -> Comparison:
    found, computed_hash, stored_hash = Comparison(), hashlib.sha256(), hashlib.sha256()
    for low, high in _steps(source, of, start, end):
        computed, stored = _computed(shelf, of, low, high), _stored(source, of, low, high)
        found.rows += computed.height
        found.stored_rows += stored.height
        computed_hash.update(_text(computed))
        stored_hash.update(_text(stored))
        for name, number in _differences(of, computed, stored).items():
            setattr(found, name, getattr(found, name) + number.height)
    found.sha256, found.stored_sha256 = computed_hash.hexdigest(), stored_hash.hexdigest()
    return found


def _computed(shelf: Shelf, of: Table, low: datetime, high: datetime) -> pl.DataFrame:
    time = pl.col(of.time)
    return _ordered(of, shelf.rows(of.name).filter((time >= low) & (time < high)).select(_columns(of)).collect())


def _stored(source: Bulk, of: Table, low: datetime, high: datetime) -> pl.DataFrame:
    only = f" AND {_ONLY[of.name]}" if of.name in _ONLY else ""
    columns = ", ".join(f"`{name}`" for name in _columns(of))
    sql = f"SELECT {columns} FROM {of.name} WHERE `{of.time}` >= @low AND `{of.time}` < @high{only}"  # noqa: S608
    return _ordered(of, source.frame(sql, {"low": low, "high": high}))


def _ordered(of: Table, rows: pl.DataFrame) -> pl.DataFrame:
    """Sorted by key, in types that do not depend on where the rows are from."""
    same = rows.with_columns(
        pl.selectors.datetime().cast(pl.Datetime("ms", "UTC")),
        pl.selectors.integer().cast(pl.Int64),
        pl.selectors.binary().bin.encode("hex"),
    )
    return same.sort(key_columns(of))


def _text(rows: pl.DataFrame) -> bytes:
    return rows.write_csv(include_header=False).encode()


def _differences(of: Table, computed: pl.DataFrame, stored: pl.DataFrame) -> Mapping[str, pl.DataFrame]:
    """Computed rows that the warehouse has not, or otherwise; stored rows that the log does not explain."""
    keys = key_columns(of)
    changed = computed.join(stored, on=computed.columns, how="anti", nulls_equal=True)
    return {
        "missing": changed.join(stored, on=keys, how="anti"),
        "different": changed.join(stored, on=keys, how="semi"),
        "unexplained": pl.concat(
            [
                stored.join(computed, on=keys, how="anti"),
                stored.filter(~stored.select(pl.struct(keys).is_first_distinct()).to_series()),
            ]
        ),
    }


def _write(settings: Settings, shelf: Shelf, outcome: Outcome) -> None:
    """Replaces the rows of the range by the computed ones where they differ; the others keep their places."""
    try:
        connection = open_file(settings.duckdb_file, read_only=False)
    except duckdb.Error as error:
        if not is_locked(error):
            raise ProblemError(f"The warehouse cannot be opened: {str(error).splitlines()[0]}") from None
        print(
            "Nothing was written, because the sink holds the warehouse: stop the pipeline, and run the same again.",
            file=sys.stderr,
        )
        return
    with connection:
        connection.begin()
        for name in outcome.tables:
            _replace(connection, shelf, table(name), outcome)
        connection.commit()
    outcome.written = True


def _replace(connection: duckdb.DuckDBPyConnection, shelf: Shelf, of: Table, outcome: Outcome) -> None:
    time, keys = pl.col(of.time), ", ".join(f'"{key}"' for key in key_columns(of))
    within = f'"{of.time}" >= $low AND "{of.time}" < $high AND {_ONLY.get(of.name, "TRUE")}'
    computed = shelf.rows(of.name).filter((time >= outcome.start) & (time < outcome.end)).collect()
    connection.register("_computed", computed.to_arrow())
    connection.execute("CREATE TEMP TABLE _wanted AS SELECT * FROM _computed")
    connection.unregister("_computed")
    same = " AND ".join(f't."{name}" IS NOT DISTINCT FROM w."{name}"' for name in _columns(of))
    bounds = {"low": outcome.start, "high": outcome.end}
    # a row stays where it is when it is wanted as it is, and is the first of its key
    mend = (
        f"CREATE TEMP TABLE _kept AS SELECT {keys}, MIN(rowid) AS place FROM {of.name} AS t "  # noqa: S608 - names of ours
        f"SEMI JOIN _wanted AS w ON {same} WHERE {within} GROUP BY ALL",
        f"DELETE FROM {of.name} WHERE {within} AND rowid NOT IN (SELECT place FROM _kept)",  # noqa: S608 - as above
    )
    for sql in mend:
        connection.execute(sql, bounds)
    connection.execute(
        f"INSERT INTO {of.name} BY NAME SELECT w.*, {NOT_OF_KAFKA} AS kafka_partition, "  # noqa: S608 - as above
        f"{NOT_OF_KAFKA} AS kafka_offset FROM _wanted AS w ANTI JOIN _kept USING ({keys})"
    )
    connection.execute("DROP TABLE _wanted; DROP TABLE _kept")
