"""DuckDB as the sink's warehouse: one file, owned by this process, served to readers by DuckDB's protocol Quack."""

from __future__ import annotations

import secrets
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime

import duckdb
import polars as pl
import structlog

from schemas.settings import Settings
from schemas.tables import Table
from sinks.target import Commit, Place, Progress, SinkError, key_columns
from warehouse import schema
from warehouse.answer import WarehouseError
from warehouse.duck import OpenFile, is_locked, load_quack, open_file

LOCK_WAIT_S = 60.0
"""How long the sink waits for another process to let go of the file."""

_CHECKPOINT = "128MB"
"""Write-ahead log that is merged into the file at once: larger means fewer pauses and a longer start after a crash."""

_ONLY_QUESTIONS = """
CREATE OR REPLACE MACRO _only_questions(connection_id, query) AS (
  SELECT tree->>'$.error' = 'false' AND json_array_length(tree, '$.statements') = 1
  FROM (SELECT json_serialize_sql(query::VARCHAR) AS tree)
)
"""
"""DuckDB's own parser says whether a reader sent exactly one SELECT: only those can be serialised."""

_READ_ROWS = 200_000

_log = structlog.get_logger()


class DuckDbTarget:
    """Rows and offsets are committed in one DuckDB transaction: exactly once, also through kill -9.

    Void when the file is changed by others, or restored from a copy older than Kafka's retention.
    """

    def __init__(self, settings: Settings, sleep: Callable[[float], None] = time.sleep) -> None:
        self._connection = _open(settings, sleep)
        schema.apply_duckdb(self._connection, settings.dataset)
        self._connection.execute(f"SET checkpoint_threshold = '{_CHECKPOINT}'")
        self.reader = OpenFile(self._connection, settings.dataset)
        try:
            self._serve(settings)
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
            raise SinkError(
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

    def keys(self, table: Table, since: datetime | None) -> Iterator[pl.DataFrame]:
        """Key columns of the rows, in batches of 200,000."""
        columns = _names(key_columns(table))
        with self._connection.cursor() as cursor:
            if since is None:
                cursor.execute(f"SELECT {columns} FROM {table.name}")  # noqa: S608 - names of schemas.tables
            else:
                cursor.execute(
                    f"SELECT {columns}, received_at FROM {table.name} WHERE received_at >= ?",  # noqa: S608
                    [since],
                )
            for batch in cursor.to_arrow_reader(_READ_ROWS):
                yield pl.DataFrame(pl.from_arrow(batch))

    def held(self, table: Table, keys: pl.DataFrame) -> pl.DataFrame:
        """Which of these keys the table has."""
        columns = key_columns(table)
        same = " AND ".join(f't."{column}" IS NOT DISTINCT FROM k."{column}"' for column in columns)
        with self._connection.cursor() as cursor:
            cursor.register("_keys", keys.to_arrow())
            # names come from schemas.tables
            cursor.execute(f"SELECT k.* FROM _keys AS k SEMI JOIN {table.name} AS t ON {same}")  # noqa: S608
            found: pl.DataFrame = cursor.pl()
            return found

    def commit(self, step: Commit) -> None:
        """One transaction; raises SinkError when DuckDB refuses it (no disk, say): nothing has changed then."""
        cursor = self._connection
        try:
            cursor.begin()
            for name, rows in (*step.rows.items(), ("ledger", step.ledger)):
                if rows.height:
                    cursor.register("_rows", rows.to_arrow())
                    cursor.execute(f"INSERT INTO {name} BY NAME SELECT * FROM _rows")  # noqa: S608 - schemas.tables
                    cursor.unregister("_rows")
            for place, progress in step.progress.items():
                self._advance(place, progress)
            cursor.commit()
        except duckdb.Error as error:
            raise SinkError(f"The warehouse did not take a batch: {str(error).splitlines()[0]}") from None

    def _advance(self, place: Place, progress: Progress) -> None:
        values = list(vars(progress).values())
        found = self._connection.execute(
            "UPDATE _progress SET first_offset = ?, next_offset = ?, controls = ?, broken = ?, expired = ?, "
            "clock_ms = ? WHERE topic = ? AND partition = ?",
            [*values, *place],
        ).fetchone()
        if found == (0,):
            self._connection.execute("INSERT INTO _progress VALUES (?, ?, ?, ?, ?, ?, ?, ?)", [*place, *values])

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


def _open(settings: Settings, sleep: Callable[[float], None]) -> duckdb.DuckDBPyConnection:
    file = settings.duckdb_file
    file.parent.mkdir(parents=True, exist_ok=True)
    waited = 0.0
    while True:
        try:
            return open_file(file, read_only=False)
        except duckdb.Error as error:
            if not is_locked(error):
                raise SinkError(
                    f"The warehouse {file} cannot be opened ({str(error).splitlines()[0]}): move it away to start anew."
                ) from None
            if waited >= LOCK_WAIT_S:
                raise SinkError(f"Another process holds {file} for {LOCK_WAIT_S:.0f} s: stop it.") from None
            if waited == 1.0:  # a reader that has the file for one question is gone by then
                _log.warning("another process holds the warehouse; waiting for it", file=str(file))
            sleep(0.125)
            waited += 0.125
