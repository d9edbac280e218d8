"""Questions find the warehouse wherever it is, and cannot change it."""

from __future__ import annotations

import multiprocessing
import threading
import time
from pathlib import Path

import duckdb
import pytest

from schemas.settings import Settings
from sinks.duckdb_target import DuckDbTarget
from tests.warehouse.conftest import Shelf
from warehouse.duck import DuckReader, load_quack
from warehouse.runner import WarehouseError, reader


def test_missing_warehouse_is_said_plainly(settings: Settings) -> None:
    """Before the first start there is a message, not an error of DuckDB."""
    with pytest.raises(WarehouseError, match=r"There is no warehouse at .* yet: start the pipeline"):
        reader(settings).query("SELECT 1")


def test_reads_the_file_while_no_sink_runs(shelf: Shelf) -> None:
    """Without a sink the file itself answers."""
    shelf.put("events", event_id="1")
    shelf.connection.close()
    assert reader(shelf.settings).query("SELECT event_id FROM events").rows == [{"event_id": "1"}]


def test_asks_the_sink_while_it_runs(shelf: Shelf) -> None:
    """With a sink the answer comes through Quack, with the same types, from several threads at once."""
    shelf.put("dead_letters", dead_letter_id="x", payload=b"\x00\xff", tenant="a")
    shelf.connection.close()
    target = DuckDbTarget(shelf.settings)
    try:
        source = reader(shelf.settings)
        rows = source.query("SELECT payload, failed_at, STRUCT(1 AS a, ['x'] AS b) AS s FROM dead_letters").rows
        assert rows[0]["payload"] == b"\x00\xff"
        assert rows[0]["failed_at"].isoformat() == "2026-01-01T00:00:00+00:00"
        assert rows[0]["s"] == {"a": 1, "b": ["x"]}
        counts: list[int] = []
        ask = lambda: counts.extend(source.query("SELECT COUNT(*) AS n FROM events").rows[0]["n"] for _ in range(5))  # noqa: E731
        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert counts == [0] * 20
        with pytest.raises(WarehouseError, match=r'^Referenced column "nope" not found'):
            source.query("SELECT nope FROM events")
    finally:
        target.close()
    assert reader(shelf.settings).query("SELECT COUNT(*) AS n FROM dead_letters").rows == [{"n": 1}]


@pytest.mark.parametrize(
    "sql",
    [
        "DROP TABLE events",
        "SELECT 1; DROP TABLE events",
        "WITH x AS (SELECT 1) INSERT INTO _progress SELECT 'a', 0, 0, 0, 0, 0, 0, 0 FROM x",
        "COPY events TO '/tmp/crossfade-test.csv'",
        "SET enable_external_access = true",
        "SELECT * FROM read_text('/etc/hostname')",
    ],
)
def test_the_server_itself_takes_only_questions(settings: Settings, sql: str) -> None:
    """Even a client of one's own, with the token, can neither change the warehouse nor read files through it."""
    target = DuckDbTarget(settings)
    try:
        client = duckdb.connect(":memory:")
        load_quack(client)
        uri, token = f"quack:127.0.0.1:{settings.quack_port}", settings.quack_token_file.read_text()
        with pytest.raises(duckdb.Error, match=r"Authorization failed|disabled by configuration"):
            client.execute("SELECT * FROM quack_query(?, ?, token => ?)", [uri, sql, token]).fetchall()
        assert client.execute("SELECT * FROM quack_query(?, 'SELECT 1', token => ?)", [uri, token]).fetchall() == [(1,)]
        assert settings.quack_token_file.stat().st_mode & 0o777 == 0o600
    finally:
        target.close()


def _hold(file: Path, held: threading.Event, let_go: threading.Event) -> None:
    connection = duckdb.connect(str(file))
    held.set()
    let_go.wait(20)
    connection.close()


def test_waits_while_another_process_holds_the_file(shelf: Shelf) -> None:
    """A held file is waited for, for a bounded time, and then said plainly; once it is free, it answers."""
    shelf.connection.close()
    context = multiprocessing.get_context("spawn")
    held, let_go = context.Event(), context.Event()
    holder = context.Process(target=_hold, args=(shelf.settings.duckdb_file, held, let_go))
    holder.start()
    try:
        assert held.wait(20)
        now = 0.0

        def sleep(seconds: float) -> None:
            nonlocal now
            now += seconds

        with pytest.raises(WarehouseError, match="held by another process"):
            DuckReader(shelf.settings, lambda: now, sleep).query("SELECT 1 AS n")
        assert now == pytest.approx(5.1)
        threading.Timer(0.3, let_go.set).start()
        began = time.monotonic()
        assert DuckReader(shelf.settings).query("SELECT 1 AS n").rows == [{"n": 1}]
        assert time.monotonic() - began < 5
    finally:
        let_go.set()
        holder.join(10)
