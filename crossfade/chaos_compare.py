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

_EVENT = "event_id, event_type, user_id, track_id, platform, country, app_version, ms_played, duration_ms, track_name"
_SKETCHED = "CASE WHEN abs(f.users - e.users) <= 3 + 0.1 * e.users THEN e.users ELSE f.users END"
"""A sketch of users may err by six standard errors; more is a sketch of something else."""
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
        oracle.derive(connection, kept, settings)
        return [_difference(connection, *asked) for asked in _questions(settings.window_ms)]


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


def _questions(window_ms: int) -> Iterator[tuple[str, str, str]]:
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
    counts = ", ".join(oracle.COUNTS)
    for scope, dimensions in oracle.SCOPES.items():
        columns = f"scope, tenant, {', '.join(dimensions)}, {counts}"
        yield (
            f"windows by {scope}",
            f"SELECT window_start, users, {columns} FROM windows_{scope} WHERE window_ms = {window_ms}",
            f"SELECT epoch_ms(window_start), users, {columns} FROM warehouse.window_metrics "
            f"WHERE scope = '{scope}' AND emit = 'final'",
        )
    for scope, dimensions in oracle.SCOPES.items():
        names = ("window_ms", "scope", "tenant", *dimensions, *oracle.COUNTS)
        same = " AND ".join(f"f.{d} IS NOT DISTINCT FROM e.{d}" for d in ("tenant", *dimensions))
        yield (
            f"larger windows by {scope}",
            f"SELECT window_start, users, {', '.join(names)} FROM windows_{scope} WHERE window_ms > {window_ms}",
            f"SELECT epoch_ms(f.window_start), {_SKETCHED}, {', '.join(f'f.{name}' for name in names)} FROM "
            f"warehouse.window_rollups AS f LEFT JOIN windows_{scope} AS e "
            f"ON epoch_ms(f.window_start) = e.window_start AND f.window_ms = e.window_ms AND {same} "
            f"WHERE f.scope = '{scope}'",
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
