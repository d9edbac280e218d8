"""The fault campaign by itself: its log, its faults, its oracle and its verdict. tests/faults causes real faults."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest
from rich.console import Console

from crossfade import chaos_oracle
from crossfade.chaos_compare import Difference, compare
from crossfade.chaos_faults import Fault, Kind, plan
from crossfade.chaos_log import GeneratedLog, generate
from crossfade.chaos_report import Pauses, Report
from producers.identity import pseudonyms
from schemas.codec import Codec
from schemas.event_time import WATERMARK_KEY
from schemas.settings import Settings
from schemas.tables import TABLES
from tests.oracle import COUNTS, Oracle
from warehouse import schema

START_MS = 1_700_000_040_000
STAGES = ("sinks", "worker-1", "worker-2", "collector", "enrichment", "kafka")


def digest(log: GeneratedLog) -> str:
    files = [file for files in log.files.values() for file in files]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def test_a_seed_makes_the_same_log_again(tmp_path: Path) -> None:
    """The bytes of all files depend on number and seed alone; every line is there."""
    logs = [generate(tmp_path / str(n), 3_000, seed) for n, seed in enumerate((1, 1, 2))]
    assert digest(logs[0]) == digest(logs[1]) != digest(logs[2])
    lines = [line for files in logs[0].files.values() for file in files for line in file.read_bytes().splitlines()]
    assert len(lines) == sum(logs[0].lines.values()) == 3_000


def test_the_truth_says_what_the_lines_say(tmp_path: Path) -> None:
    """Each readable line stands in the truth with its fields, each broken one with its reason and its MD5."""
    log = generate(tmp_path, 20_000, 4)
    told = duckdb.sql(f"SELECT event_id, timestamp, reason, payload_md5 FROM read_parquet('{log.truth}')").fetchall()
    lines = [line for files in log.files.values() for file in files for line in file.read_bytes().splitlines()]
    broken = {md5 for _, _, reason, md5 in told if reason}
    good = sorted((event_id, at) for event_id, at, reason, _ in told if not reason)
    rest = [line for line in lines if hashlib.md5(line).hexdigest() not in broken]
    assert len(broken) == len(lines) - len(rest) > 5
    assert sorted((event["event_id"], event["timestamp"]) for event in map(json.loads, rest)) == good
    assert len({event_id for event_id, _ in good}) < len(good), "some come again"
    assert log.last_ms == max(at for _, at in good)


@pytest.mark.parametrize("kills", [0, 1, 6, 100])
def test_faults_are_spread_over_the_events(kills: int) -> None:
    """As many kills as asked for and a fifth as many stops past the session, every stage killed, in order."""
    faults = plan(7, 10_000, kills, STAGES, 6_000)
    assert faults == plan(7, 10_000, kills, STAGES, 6_000)
    killed = [fault.stage for fault in faults if fault.kind is Kind.KILL]
    stopped = [fault for fault in faults if fault.kind is Kind.STOP]
    assert len(killed) == kills
    assert len(stopped) == (max(1, round(kills / 5)) if kills else 0)
    assert all(fault.seconds > 6 for fault in stopped)
    assert set(killed) == set(STAGES) or kills < len(STAGES)
    places = [fault.after for fault in faults]
    assert places == sorted(places)
    assert not places or (places[0] > 0 and places[-1] < 9_700)


class Message:
    """A record as the Kafka client gives it."""

    def __init__(self, offset: int, value: bytes | None, at: int) -> None:
        self._offset, self._value, self._at = offset, value, at

    def offset(self) -> int:
        return self._offset

    def value(self) -> bytes | None:
        return self._value

    def key(self) -> bytes:
        return WATERMARK_KEY if self._value is None else b"user"

    def timestamp(self) -> tuple[int, int]:
        return 1, self._at


def an_event(chance: random.Random, number: int) -> dict[str, Any]:
    return {
        "event_id": f"e{chance.randrange(number + 5)}",
        "event_type": chance.choice(["play", "play", "pause", "skip", "like", "share"]),
        "user_id": f"user{chance.randrange(6)}",
        "track_id": f"t{chance.randrange(4)}",
        "timestamp": START_MS + number * 900 - chance.choice([0, 0, 5_000, 200_000]),
        "platform": chance.choice(["spotify", "custom"]),
        "country": chance.choice([None, "DE"]),
        "ms_played": chance.choice([None, 90_000]),
        "duration_ms": chance.choice([None, 180_000]),
        "tenant": "default",
        "source": "replay",
        "received_at": START_MS,
    }


@pytest.mark.parametrize("seed", range(5))
def test_both_oracles_agree(tmp_path: Path, seed: int) -> None:
    """Windows, late events and plays in SQL over files are those of the plain loop that the other tests use."""
    chance, codec, settings = random.Random(seed), Codec("listening_event"), Settings(data_dir=tmp_path)
    expected = Oracle()
    the_end = START_MS + 10_000_000  # every play is over by then
    for partition in range(2):
        log: list[Any] = []
        for number in range(400):
            log.append(an_event(chance, number) | {"user_id": f"user{chance.randrange(6)}-{partition}"})
            log[-1]["event_id"] += f"-{partition}"
            if chance.random() < 0.01:
                log.append(START_MS + number * 900 + 30_000)
        expected.read([*log, the_end])
        reader = chaos_oracle._Reader(settings, codec, partition)
        cut, number = chance.randrange(len(log)), 0
        for entries in (log[:cut], log[cut:]):
            messages = []
            for entry in entries:
                mark = isinstance(entry, int)
                messages.append(Message(number, None if mark else codec.encode(entry), entry if mark else START_MS * 2))
                number += 1
            if messages:
                events, broken = reader.take(messages)
                events.write_parquet(tmp_path / f"events-{partition}-{number}.parquet")
                assert broken.is_empty()
    with chaos_oracle.open_oracle(tmp_path) as oracle:
        chaos_oracle.derive(oracle, tmp_path, settings)
        counts, empty = ", ".join(COUNTS), ", ".join("NULL" for _ in chaos_oracle.SERIES)
        minutes = f"{counts} FROM windows_{{}} WHERE window_ms = 60000"
        rows = oracle.execute(
            f"SELECT window_start, scope, tenant, {', '.join(chaos_oracle.SERIES)}, NULL, {minutes.format('series')} "
            f"UNION ALL SELECT window_start, scope, tenant, {empty}, track_id, {minutes.format('track')}"
        ).fetchall()
        assert {row[:8]: row[8:] for row in rows} == expected.counts()
        larger = oracle.execute("SELECT window_ms, sum(events) FROM windows_track GROUP BY 1 ORDER BY 1").fetchall()
        in_time = sum(found.get("events", 0) for key, found in expected.windows.items() if key[1] == "track")
        assert larger == [(size_ms, in_time) for size_ms in (60_000, 300_000, 3_600_000, 86_400_000)]
        assert {i for (i,) in oracle.execute("SELECT event_id FROM fresh WHERE late").fetchall()} == expected.late
        plays = oracle.execute("SELECT play_id, ended_by, ms_played FROM expected_plays")
        found = {row[0]: {"ended_by": row[1], "ms_played": row[2]} for row in plays.fetchall()}
        assert found == expected.plays


@pytest.fixture
def warehouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Settings, GeneratedLog]:
    """A warehouse that holds all events of a small log, and no more; no log in Kafka."""
    settings = Settings(data_dir=tmp_path / "data")
    log = generate(tmp_path / "log", 2_000, 1)
    settings.duckdb_file.parent.mkdir(parents=True)
    with duckdb.connect(str(settings.duckdb_file)) as connection:
        schema.apply_duckdb(connection, settings.dataset)
        for table in TABLES:
            for column in table.columns:
                connection.execute(f'ALTER TABLE {table.name} ALTER COLUMN "{column.name}" DROP NOT NULL')

    def read_log(_: Settings, directory: Path) -> None:
        directory.mkdir()
        events, broken = chaos_oracle._Reader(settings, Codec("listening_event"), 0).take([Message(0, None, START_MS)])
        events.write_parquet(directory / "events-0.parquet")
        broken.write_parquet(directory / "broken-0.parquet")

    monkeypatch.setattr(chaos_oracle, "read_log", read_log)
    return settings, log


INSERT = """
INSERT INTO events BY NAME
SELECT DISTINCT ON (event_id) event_id, event_type, track_id, epoch_ms(timestamp) AS timestamp, platform, country,
  app_version, ms_played, duration_ms, track_name, user_id, false AS is_late
FROM read_parquet('{truth}') WHERE reason IS NULL
"""


@pytest.mark.parametrize(
    ("damage", "lost", "doubled"),
    [
        ("SELECT 1", 0, 0),
        ("DELETE FROM events WHERE event_id IN (SELECT event_id FROM events LIMIT 3)", 3, 0),
        ("INSERT INTO events SELECT * FROM events LIMIT 2", 0, 2),
        ("UPDATE events SET track_id = 'another' WHERE event_id = (SELECT min(event_id) FROM events)", 1, 1),
        ("INSERT INTO events BY NAME SELECT 'made up' AS event_id", 0, 1),
    ],
    ids=["whole", "lost", "doubled", "changed", "made up"],
)
def test_every_damage_is_seen(
    warehouse: tuple[Settings, GeneratedLog], tmp_path: Path, damage: str, lost: int, doubled: int
) -> None:
    """A row that is missing, there twice, changed or made up is counted as lost, doubled, both, or doubled."""
    settings, log = warehouse
    names = pseudonyms(settings, settings.tenant)
    with duckdb.connect(str(settings.duckdb_file)) as connection:
        connection.create_function("pseudonym", names.of, ["VARCHAR"], "VARCHAR")
        connection.execute(INSERT.format(truth=log.truth).replace("user_id,", "pseudonym(user_id) AS user_id,"))
        connection.execute(damage)
    (tmp_path / "work").mkdir()
    found = {one.table: one for one in compare(settings, log, [], tmp_path / "work")}
    events = found["events"]
    assert (events.lost, events.doubled) == (lost, doubled)
    assert bool(events.samples) == bool(lost or doubled)
    assert found["tracks"].lost > 0, "nothing was loaded there"


def test_a_pause_is_the_doing_of_the_fault_before_it() -> None:
    """Each figure has to move by itself; what stood still before any fault is nobody's doing."""
    pauses = Pauses()
    kill, stop = Fault(5, Kind.KILL, "worker-1"), Fault(9, Kind.STOP, "sinks", 8.0)
    pauses.observe(0.0, {"a": 1, "b": 1})
    pauses.observe(5.0, {"a": 2, "b": 2})
    pauses.struck(10.0, kill)
    for now in range(10, 17):
        pauses.observe(float(now), {"a": now, "b": 2})
    pauses.observe(17.0, {"a": 17, "b": 3})
    pauses.struck(30.0, stop)
    pauses.observe(30.5, {"a": 18, "b": 4})
    pauses.observe(38.0, {"a": 18, "b": 5})
    assert pauses.by_kind() == {("kill -9", "worker"): [7.0], ("stopped", "sinks"): [7.5]}


def report(*differences: Difference, balanced: bool = True) -> Report:
    pauses = Pauses([(1.0, Fault(1, Kind.KILL, "kafka"))], {0: 3.14})
    return Report(1, 1_000, 2, 60.0, pauses, differences, {"accepted": 1_000}, balanced)


@pytest.mark.parametrize(
    ("made", "good"),
    [
        (lambda: report(Difference("events", 5, 5, 0, 0)), True),
        (lambda: report(Difference("events", 5, 4, 1, 0, ("lost: event_id=e1",))), False),
        (lambda: report(Difference("plays", 5, 6, 0, 1)), False),
        (lambda: report(Difference("events", 5, 5, 0, 0), balanced=False), False),
    ],
)
def test_the_verdict(made: Callable[[], Report], good: bool) -> None:
    """Good only when nothing is lost or doubled and the ledger balances; JSON and text tell the figures."""
    found = made()
    told = found.as_json()
    assert found.good is good
    assert (told["events"], told["faults"], told["longest_pause_s"]) == (1_000, 1, 3.1)
    assert type(told["lost"]) is type(told["doubled"]) is int
    assert "| kill -9 | kafka | 1 | 3.1 | 3.1 |" in found.as_markdown()
    console = Console(record=True, width=120)
    found.show(console)
    assert f"{told['lost']} lost, {told['doubled']} doubled" in console.export_text()
