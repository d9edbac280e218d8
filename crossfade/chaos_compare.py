"""Compares the warehouse of a campaign with the generator's log and the batch oracle, row by row.

Every table is compared as a bag of rows: a row that is expected and not there is lost, a row that is there and not
expected (a second copy, or one that says something else) is doubled. A row that says something else is therefore both.
"""

# ruff: noqa: S608 - the names in these questions are ours, and nobody else's text reaches them

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb

from crossfade import chaos_oracle as oracle
from crossfade.chaos_log import GeneratedLog
from producers.identity import pseudonyms
from schemas.settings import Settings
from schemas.tables import table

_EVENT = "event_id, event_type, user_id, track_id, platform, country, app_version, ms_played, duration_ms, track_name"
_TRACK = "track_id, track_name, artist_name, duration_ms"


@dataclass(frozen=True)
class Difference:
    """One table: rows expected and found, how many are lost or doubled, and some of them."""

    table: str
    expected: int
    found: int
    lost: int
    doubled: int
    samples: tuple[str, ...] = ()


def compare(settings: Settings, log: GeneratedLog, raw_md5: list[str], work: Path) -> list[Difference]:
    """Compares everything. `raw_md5`: MD5 of the unreadable records that were written past the doors.

    Kafka must answer, and no sink may hold the warehouse file. Raises KafkaUnavailableError and duckdb.Error.
    """
    kept = work / "kafka-log"
    oracle.read_log(settings, kept)
    with oracle.open_oracle(work) as connection:
        connection.execute(f"ATTACH '{settings.duckdb_file}' AS warehouse (READ_ONLY)")
        _name(connection, settings, log, raw_md5, kept)
        present = {column.name for column in table("window_metrics").columns}
        series = tuple(c for c in ("event_type", "platform", "country", "app_version") if c in present)
        oracle.derive(connection, kept, settings, series)
        return [_difference(connection, *asked) for asked in _questions(settings.window_ms, series)]


def _name(
    connection: duckdb.DuckDBPyConnection, settings: Settings, log: GeneratedLog, raw_md5: list[str], kept: Path
) -> None:
    """Gives names to what was told: `told` (events, under their pseudonyms), `refused`, `unreadable` and `raw`."""
    names = pseudonyms(settings, settings.tenant)
    connection.execute(f"CREATE VIEW truth AS SELECT * FROM read_parquet('{log.truth}')")
    users = [user for (user,) in connection.execute("SELECT DISTINCT user_id FROM truth").fetchall() if user]
    connection.execute(
        "CREATE TABLE listeners AS SELECT unnest(?::VARCHAR[]) AS user_id, unnest(?::VARCHAR[]) AS pseudonym",
        [users, [names.of(user) for user in users]],
    )
    connection.execute(
        "CREATE VIEW told AS SELECT * REPLACE (pseudonym AS user_id) FROM truth JOIN listeners USING (user_id)"
    )
    connection.execute("CREATE VIEW refused AS SELECT reason, payload_md5 FROM truth WHERE reason IS NOT NULL")
    connection.execute(f"CREATE VIEW unreadable AS SELECT * FROM read_parquet('{kept}/broken-*.parquet')")
    connection.execute("CREATE TABLE raw AS SELECT unnest(?::VARCHAR[]) AS payload_md5", [raw_md5])


def _questions(window_ms: int, series: tuple[str, ...]) -> Iterator[tuple[str, str, str]]:
    """(name, what is expected, what is found) of each comparison."""
    yield (
        "events",
        f"SELECT DISTINCT {_EVENT}, timestamp FROM told",
        f"SELECT {_EVENT}, epoch_ms(timestamp) FROM warehouse.events",
    )
    yield (
        "late events",
        "SELECT event_id FROM fresh WHERE late",
        "SELECT event_id FROM warehouse.events WHERE is_late",
    )
    for scope, dimensions in (("series", ", ".join(series)), ("track", "track_id")):
        columns = f"scope, tenant, {dimensions}, {', '.join(oracle.COUNTS)}"
        yield (
            f"windows by {scope}",
            f"SELECT window_start, {columns} FROM windows_{scope}",
            f"SELECT epoch_ms(window_start), {columns} FROM warehouse.window_metrics "
            f"WHERE scope = '{scope}' AND epoch_ms(window_end) - epoch_ms(window_start) = {window_ms}",
        )
    times = {"started_at", "ended_at"}
    for name, kinds in (("plays", oracle.PLAY), ("sessions", oracle.SESSION)):
        found = ", ".join(f"epoch_ms({column})" if column in times else column for column in kinds)
        yield name, f"SELECT * FROM expected_{name}", f"SELECT {found} FROM warehouse.{name}"
    yield (
        "dead letters of the doors",
        "SELECT * FROM refused",
        "SELECT reason, md5(payload) FROM warehouse.dead_letters WHERE topic IS NULL",
    )
    yield (
        "dead letters of the worker",
        "SELECT place, payload_md5 FROM unreadable",
        "SELECT dead_letter_id, md5(payload) FROM warehouse.dead_letters WHERE topic IS NOT NULL",
    )
    yield "unreadable records", "SELECT * FROM raw", "SELECT DISTINCT payload_md5 FROM unreadable"
    yield (
        "tracks",
        f"SELECT DISTINCT {_TRACK} FROM told WHERE track_name IS NOT NULL",
        f"SELECT {_TRACK} FROM warehouse.tracks WHERE track_name IS NOT NULL",
    )
    yield (
        "tracks with an insight",
        "SELECT DISTINCT track_id FROM told",
        "SELECT track_id FROM warehouse.current_insights",
    )
    yield (
        "alerts",  # each transition once, and none resolved that was not raised
        "SELECT transition_id FROM warehouse.anomaly_alerts UNION "
        "SELECT alert_id || '/raised' FROM warehouse.anomaly_alerts",
        "SELECT transition_id FROM warehouse.anomaly_alerts",
    )


def _difference(connection: duckdb.DuckDBPyConnection, name: str, expected: str, found: str) -> Difference:
    both = f"SELECT *, 1 AS side FROM ({expected}) UNION ALL SELECT *, -1 AS side FROM ({found})"
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE differing AS "
        f"SELECT * EXCLUDE (side), sum(side) AS n FROM ({both}) GROUP BY ALL HAVING sum(side) <> 0"
    )
    sums = connection.execute(
        "SELECT coalesce(sum(n) FILTER (n > 0), 0)::BIGINT, coalesce(-sum(n) FILTER (n < 0), 0)::BIGINT, "
        f"(SELECT count(*) FROM ({expected})), (SELECT count(*) FROM ({found})) FROM differing"
    ).fetchone()
    assert sums is not None
    lost, doubled, wanted, there = sums
    return Difference(name, wanted, there, lost, doubled, tuple(_samples(connection)))


def _samples(connection: duckdb.DuckDBPyConnection) -> Iterator[str]:
    shown = connection.execute("SELECT * FROM differing ORDER BY ALL LIMIT 20")
    columns = [column[0] for column in shown.description]
    for row in shown.fetchall():
        told = dict(zip(columns, row, strict=True))
        side = "lost" if told.pop("n") > 0 else "doubled"
        yield f"{side}: " + ", ".join(f"{name}={value}" for name, value in told.items())
