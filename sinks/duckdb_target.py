"""DuckDB as the sink's warehouse: one file, owned by this process, served to readers by DuckDB's protocol Quack."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Iterator, Mapping
from datetime import datetime

import duckdb
import polars as pl
import pyarrow as pa

from schemas.settings import Settings
from schemas.tables import Table
from sinks.target import IMPORTED, Commit, Place, Progress, SinkError, WarehouseAwayError, from_offsets, key_columns
from warehouse import schema
from warehouse.answer import WarehouseError
from warehouse.duck import OpenFile, is_locked, load_quack, open_file

_MEMORY = "128MB"
"""Memory that DuckDB uses for its buffers; what a question needs beyond it goes to a directory beside the file."""

_CHECKPOINT = "32MB"
"""Write-ahead log that is merged into the file at once: larger means fewer pauses and a longer start after a crash."""

_ONLY_QUESTIONS = """
CREATE OR REPLACE MACRO _only_questions(connection_id, query) AS (
  SELECT tree->>'$.error' = 'false' AND json_array_length(tree, '$.statements') = 1
  FROM (SELECT json_serialize_sql(query::VARCHAR) AS tree)
)
"""
"""DuckDB's own parser says whether a reader sent exactly one SELECT: only those can be serialised."""

_READ_ROWS = 200_000


class DuckDbTarget:
    """Rows and offsets are committed in one DuckDB transaction: exactly once, also through kill -9.

    Void when the file is changed by others, or restored from a copy older than Kafka's retention.
    """

    def __init__(self, settings: Settings) -> None:
        self._connection = _open(settings)
        try:
            self._connection.execute(f"SET memory_limit = '{_MEMORY}'")
            # a thread without work spins: on two cores, inserts cost half of the CPU time with one thread
            self._connection.execute(f"SET threads = {max((os.cpu_count() or 2) // 2, 1)}")
            self._connection.execute(f"SET checkpoint_threshold = '{_CHECKPOINT}'")
            schema.apply_duckdb(self._connection, settings.dataset)
            self.reader = OpenFile(self._connection, settings.dataset)
            self._serve(settings)
        except duckdb.Error as error:
            self._connection.close()
            raise _refusal(error) from None
        except BaseException:
            self._connection.close()
            raise

    def _serve(self, settings: Settings) -> None:
        token = secrets.token_hex(32)
        file = settings.quack_token_file
        file.parent.mkdir(parents=True, exist_ok=True)
        file.unlink(missing_ok=True)
        file.touch(mode=0o600)
        file.write_text(token)
        try:
            _refuse_shared_port(settings.quack_port)
            load_quack(self._connection)
            self._connection.execute(_ONLY_QUESTIONS)
            self._connection.execute("SET GLOBAL quack_authorization_function = '_only_questions'")
            self._connection.execute("SET GLOBAL enable_external_access = false")
            self._connection.execute(
                "CALL quack_serve(?, token => ?)", [f"quack:127.0.0.1:{settings.quack_port}", token]
            )
        except WarehouseError as error:
            raise SinkError(str(error)) from None
        except (duckdb.Error, OSError) as error:
            raise WarehouseAwayError(
                f"The warehouse cannot be served on port {settings.quack_port} ({str(error).splitlines()[0]}): "
                "stop what uses the port, or set CROSSFADE_QUACK_PORT."
            ) from None

    def progress(self) -> dict[Place, Progress]:
        """What the last commit said."""
        found = self._connection.execute(
            "SELECT topic, partition, first_offset, next_offset, controls, broken, expired, clock_ms FROM _progress"
        ).fetchall()
        return {(topic, partition): Progress(*rest) for topic, partition, *rest in found}

    def orphans(self, progress: Mapping[Place, Progress]) -> dict[str, pl.DataFrame]:  # noqa: ARG002 - the interface's
        """None: a step is one transaction."""
        return {}

    def keys(self, table: Table, since: datetime | None, first: Mapping[int, int]) -> Iterator[pl.DataFrame]:
        """Key columns of the rows, in batches of 200,000."""
        columns, offsets = _names(key_columns(table)), from_offsets(first)
        with self._connection.cursor() as cursor:
            if since is None:
                cursor.execute(f"SELECT {columns} FROM {table.name} WHERE {offsets}")  # noqa: S608 - schemas.tables
            else:
                cursor.execute(
                    f"SELECT {columns}, received_at, source FROM {table.name} "  # noqa: S608 - schemas.tables
                    f"WHERE {offsets} AND (received_at >= ? OR source = ?)",
                    [since, IMPORTED],
                )
            for batch in cursor.to_arrow_reader(_READ_ROWS):
                yield pl.DataFrame(pl.from_arrow(batch))

    def held(self, table: Table, keys: pl.DataFrame) -> pl.DataFrame:
        """Which of these keys the table has: first those with the same time, whose blocks DuckDB finds by it."""
        columns = key_columns(table)
        try:
            found = self._search(table, keys, [*columns, table.time])
            rest = keys.join(found, on=columns, how="anti", nulls_equal=True)
            return pl.concat([found, self._search(table, rest, columns)]) if rest.height else found
        except duckdb.Error as error:
            raise _refusal(error) from None

    def _search(self, table: Table, keys: pl.DataFrame, columns: list[str]) -> pl.DataFrame:
        must = [column.name for column in table.columns if column.required]
        same = " AND ".join(
            f't."{name}" = k."{name}"' if name in must else f't."{name}" IS NOT DISTINCT FROM k."{name}"'
            for name in columns
        )
        with self._connection.cursor() as cursor:
            cursor.register("_keys", keys.to_arrow())
            # names come from schemas.tables
            cursor.execute(f"SELECT k.* FROM _keys AS k SEMI JOIN {table.name} AS t ON {same}")  # noqa: S608
            return pl.DataFrame(pl.from_arrow(cursor.to_arrow_table()), schema=keys.schema)

    def commit(self, step: Commit) -> None:
        """One transaction: all of it or nothing."""
        try:
            self._connection.begin()
            for name, rows in (*step.rows.items(), ("ledger", step.ledger)):
                self._insert(name, rows)
            progress = pl.DataFrame(
                [(*place, *vars(own).values()) for place, own in step.progress.items()],
                schema=[column.name for column in schema.PROGRESS.columns],
                orient="row",
            )
            self._connection.execute(
                "DELETE FROM _progress WHERE (topic, partition) IN (SELECT UNNEST(?), UNNEST(?))",
                [progress["topic"].to_list(), progress["partition"].to_list()],
            )
            self._insert("_progress", progress)
            self._connection.commit()
        except duckdb.Error as error:
            raise _refusal(error) from None

    def _insert(self, name: str, rows: pl.DataFrame) -> None:
        if not rows.height:
            return
        # newest is cheaper, but views in lists that are all empty have no memory, and Arrow complains of their address
        lists = any(isinstance(kind, pl.List) for kind in rows.dtypes)
        table = rows.to_arrow(compat_level=pl.CompatLevel.oldest() if lists else pl.CompatLevel.newest())
        reader = pa.RecordBatchReader.from_batches(table.schema, table.to_batches())  # cheaper to scan than a table
        self._connection.register("_rows", reader)
        self._connection.execute(f"INSERT INTO {name} BY NAME SELECT * FROM _rows")  # noqa: S608 - schemas.tables
        self._connection.unregister("_rows")

    def close(self) -> None:
        """Merges the write-ahead log into the file and lets go of it."""
        self._connection.close()


def _refuse_shared_port(port: int) -> None:
    """Quack's server would share the port with another one, and each would get half of the questions."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except ConnectionRefusedError:
        return
    raise OSError("another program listens there")


def _names(columns: list[str]) -> str:
    return ", ".join(f'"{column}"' for column in columns)


def _refusal(error: duckdb.Error) -> SinkError:
    """What DuckDB's complaint means to the sink: to wait, as long as the file is not damaged."""
    said = str(error).splitlines()[0]
    if isinstance(error, duckdb.IOException | duckdb.FatalException | duckdb.TransactionException):
        return WarehouseAwayError(f"The warehouse takes no rows ({said}): is the disk full?")
    if isinstance(error, duckdb.OutOfMemoryException):
        return WarehouseAwayError(f"The warehouse takes no rows ({said}): is the disk full?")
    return SinkError(f"The warehouse did not take a batch: {said}")


def _open(settings: Settings) -> duckdb.DuckDBPyConnection:
    file = settings.duckdb_file
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        return open_file(file, read_only=False)
    except OSError as error:
        raise WarehouseAwayError(f"The directory {file.parent} cannot be made ({error.strerror}).") from None
    except duckdb.Error as error:
        said = str(error).splitlines()[0]
        if is_locked(error):
            raise WarehouseAwayError(f"Another process holds the warehouse {file}: stop it.") from None
        if "No space left" in said:
            raise WarehouseAwayError(f"The warehouse {file} cannot be opened ({said}).") from None
        raise SinkError(f"The warehouse {file} cannot be opened ({said}): move it away to start anew.") from None
