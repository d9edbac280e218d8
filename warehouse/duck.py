"""DuckDB as the warehouse: opening the file, its server protocol Quack, and questions over either."""

from __future__ import annotations

import importlib.metadata
import importlib.resources
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import polars as pl

from schemas.settings import Settings
from warehouse.answer import Answer, WarehouseError
from warehouse.dialect import to_duckdb

T = TypeVar("T")

FALL_OVER_S = 5.0
"""How long a question waits for a sink that is just starting or stopping."""

ANSWER_WITHIN_S = 120.0
"""A question that takes longer is stopped."""

_CLOSED = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "python_enable_replacements": False,
}
"""Nothing is downloaded, and a name in SQL never means a Python variable."""


def load_quack(connection: duckdb.DuckDBPyConnection) -> None:
    """Loads the server protocol from the installed wheels; raises WarehouseError when they are missing."""
    for name in ("httpfs", "quack"):
        file = f"{name}.duckdb_extension"
        try:
            place = (
                importlib.resources.files(f"duckdb_extension_{name}") / "extensions" / f"v{duckdb.__version__}" / file
            )
            quoted = str(place).replace("'", "''")
            connection.execute(f"LOAD '{quoted}'")
        except (ModuleNotFoundError, duckdb.Error) as error:
            raise WarehouseError(
                f"DuckDB's extension {name} {duckdb.__version__} cannot be loaded ({_first_line(error)}): "
                f"install duckdb-extension-{name}=={duckdb.__version__}."
            ) from None


def is_locked(error: Exception) -> bool:
    """Whether DuckDB refused to open the file because another process holds it."""
    return isinstance(error, duckdb.IOException) and "lock on file" in str(error)


def open_file(file: Path, *, read_only: bool) -> duckdb.DuckDBPyConnection:
    """Opens the warehouse file, sessions in UTC; raises duckdb.IOException when another process holds it."""
    connection = duckdb.connect(str(file), read_only=read_only, config=_CLOSED)
    connection.execute("SET GLOBAL TimeZone = 'UTC'")
    return connection


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]


def plain_error(error: Exception) -> WarehouseError:
    """DuckDB's complaint without its internals."""
    said = str(error).split("\n\nLINE ")[0].strip()
    kinds = ("Invalid Input Error: ", "Binder Error: ", "Catalog Error: ", "Parser Error: ", "Conversion Error: ")
    for kind in kinds:
        said = said.removeprefix(kind)
    return WarehouseError(" ".join(said.split()))


Take = Callable[[duckdb.DuckDBPyConnection], T]
"""Takes the rows of what a connection has just run."""


def as_answer(found: duckdb.DuckDBPyConnection) -> Answer:
    """The rows as Python has them."""
    return Answer.of([column[0] for column in found.description], found.fetchall())


def as_frame(found: duckdb.DuckDBPyConnection) -> pl.DataFrame:
    """The rows as a data frame."""
    return pl.DataFrame(pl.from_arrow(found.to_arrow_table()))


def ask(connection: duckdb.DuckDBPyConnection, take: Take[T], sql: str, params: list[str] | None = None) -> T:
    """Runs DuckDB's own SQL; stops it after ANSWER_WITHIN_S. Raises duckdb.Error and WarehouseError."""
    timer = threading.Timer(ANSWER_WITHIN_S, connection.interrupt)
    timer.daemon = True
    timer.start()
    try:
        return take(connection.execute(sql, params or []))
    except duckdb.InterruptException:
        raise WarehouseError(f"The question was stopped after {ANSWER_WITHIN_S:.0f} s.") from None
    finally:
        timer.cancel()


class OpenFile:
    """Questions of the process that holds the file itself, each on its own cursor. Safe to share between threads."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, dataset: str) -> None:
        self._connection, self._dataset = connection, dataset

    def query(self, sql: str, params: Mapping[str, Any] | None = None) -> Answer:
        """Answers a query in BigQuery's dialect; raises WarehouseError."""
        translated = to_duckdb(sql, self._dataset, params)
        try:
            with self._connection.cursor() as cursor:
                return ask(cursor, as_answer, translated)
        except duckdb.Error as error:
            raise plain_error(error) from None


class DuckReader:
    """Questions of any other process: to the sink while it runs, to the file otherwise. Safe to share between threads.

    The file is opened for one question only, so that a sink can take it at any time; where the sink is just starting
    or stopping, a question waits up to FALL_OVER_S.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._settings, self._clock, self._sleep = settings, clock, sleep
        self._client: duckdb.DuckDBPyConnection | None = None
        self._opening = threading.Lock()

    def query(self, sql: str, params: Mapping[str, Any] | None = None) -> Answer:
        """Answers a query in BigQuery's dialect; raises WarehouseError."""
        return self._ask(as_answer, sql, params)

    def frame(self, sql: str, params: Mapping[str, Any] | None = None) -> pl.DataFrame:
        """Answers a query in BigQuery's dialect as a data frame; raises WarehouseError."""
        return self._ask(as_frame, sql, params)

    def _ask(self, take: Take[T], sql: str, params: Mapping[str, Any] | None) -> T:
        translated = to_duckdb(sql, self._settings.dataset, params)
        end = self._clock() + FALL_OVER_S
        while True:
            found = self._from_sink(take, translated)
            found = self._from_file(take, translated) if found is None else found
            if found is not None:
                return found
            if self._clock() > end:
                raise WarehouseError(
                    f"The warehouse {self._settings.duckdb_file} is held by another process that does not answer "
                    f"on port {self._settings.quack_port}: stop that process, or start the pipeline again."
                )
            self._sleep(0.1)

    def _from_sink(self, take: Take[T], sql: str) -> T | None:
        try:
            token = self._settings.quack_token_file.read_text().strip()
        except OSError:
            return None
        uri = f"quack:127.0.0.1:{self._settings.quack_port}"
        try:
            with self._quack().cursor() as cursor:
                return ask(cursor, take, "SELECT * FROM quack_query(?, ?, token => ?)", [uri, sql, token])
        except duckdb.IOException:
            return None  # nobody listens, or the sink went away while it answered
        except duckdb.Error as error:
            if "Authentication failed" in str(error):
                return None  # the sink has started anew and its token is being written
            raise plain_error(error) from None

    def _quack(self) -> duckdb.DuckDBPyConnection:
        with self._opening:
            if self._client is None:
                client = duckdb.connect(":memory:", config=_CLOSED)
                client.execute("SET GLOBAL TimeZone = 'UTC'")
                load_quack(client)
                self._client = client
            return self._client

    def _from_file(self, take: Take[T], sql: str) -> T | None:
        file = self._settings.duckdb_file
        if not file.exists():
            raise WarehouseError(
                f"There is no warehouse at {file} yet: start the pipeline with ./start_local.sh, then ask again."
            )
        try:
            with open_file(file, read_only=True) as connection:
                connection.execute("SET enable_external_access = false")
                return ask(connection, take, sql)
        except duckdb.Error as error:
            if is_locked(error):
                return None
            raise plain_error(error) from None
