"""The ledger recounted: what somebody takes away or doubles is named, raised as an alert, and resolved."""

from __future__ import annotations

import json
import signal
import time
from typing import Any

import duckdb
import pytest

from crossfade.ledger import show_ledger
from crossfade.output import Format
from crossfade.verify import recount, verify
from schemas.kafka import admin
from schemas.settings import Settings
from sinks.audit import Audit, oldest_unread_ms
from sinks.imbalance import STANDS_MS
from sinks.ledger import balance, ends_of
from sinks.target import Progress
from tests.pipeline.test_sink import fill, own, sink
from warehouse.runner import reader

__all__ = ["own"]

NOW_MS = 1_800_000_000_000


def test_what_is_taken_away_is_named(own: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    """A row that is gone, one that is doubled and a letter that is gone: by id, by source, and as alerts."""
    ids, right = fill(own, seed=3)
    source = reader(own)
    with sink(own) as process:
        end = time.monotonic() + 90
        while not own.duckdb_file.exists() or balance(own, source) != right:
            assert time.monotonic() < end
            time.sleep(0.2)
        verdict = recount(own, source)
        assert (verdict.ok, verdict.checked, verdict.in_flight) == (True, right.accepted, 0)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    capsys.readouterr()
    assert verify(own, Format.TABLE)
    shown = capsys.readouterr()
    assert (shown.out, "0 in flight: each is accounted for once" in shown.err) == ("", True)

    with duckdb.connect(str(own.duckdb_file)) as file:
        file.execute("DELETE FROM events WHERE event_id = '5'; DELETE FROM events WHERE event_id = '7'")
        file.execute("INSERT INTO events SELECT * FROM events WHERE event_id = '9'")
    assert not verify(own, Format.CSV)
    assert set(capsys.readouterr().out.splitlines()) == {"finding,id", "missing,5", "missing,7", "doubled,9"}

    with duckdb.connect(str(own.duckdb_file)) as file:
        (letter,) = file.execute(
            "DELETE FROM dead_letters WHERE dead_letter_id = 'replay/b' RETURNING dead_letter_id"
        ).fetchone()
    assert not verify(own, Format.JSON)
    told = json.loads(capsys.readouterr().out)
    assert sorted(told["missing"]) == ["5", "7"]
    assert told["doubled"] == ["9"]
    assert told["missing_dead_letters"] == [letter]
    assert {row["event_id"] for row in told["details"]["missing"]} == {"5", "7"} <= ids

    assert not show_ledger(own, "source", Format.JSON)
    lines = {row["source"]: row for row in json.loads(capsys.readouterr().out)}
    assert (lines["simulator"]["difference"], lines["replay"]["difference"]) == (1, 1)  # two gone, one twice
    assert not show_ledger(own, "hour", Format.CSV)
    assert not show_ledger(own, None, Format.CSV)

    clock = [NOW_MS]
    audit = Audit(own, lambda: clock[0])
    assert audit.look(source, balance(own, source), None) == []
    clock[0] += STANDS_MS
    raised = audit.look(source, balance(own, source), None)
    assert {(a["status"], a["series"].split()[0], a["observed"]) for a in raised} == {
        ("raised", "source=simulator", 1.0),
        ("raised", "source=replay", 1.0),
    }
    with sink(own) as process:
        end = time.monotonic() + 60
        while not (rows := _alerts(own)):
            assert time.monotonic() < end
            time.sleep(0.2)
        assert rows[0]["runbook"] == "ops/runbooks/ledger-imbalance.md"
        again = Audit(own, lambda: clock[0] + STANDS_MS)  # a sink that starts anew knows what was told
        assert again.look(source, balance(own, source), None) == []
        process.send_signal(signal.SIGTERM)
        process.wait(10)


def _alerts(settings: Settings) -> list[dict[str, Any]]:
    return reader(settings).query("SELECT * FROM anomaly_alerts WHERE detector = 'ledger'").rows


def test_the_age_of_what_was_not_read(own: Settings) -> None:
    """Kafka's timestamp of the first record behind the last commit; None when everything was read."""
    before = time.time_ns() // 1_000_000
    fill(own, seed=4)
    ends = ends_of(admin(own), ["listening-events"])
    oldest = oldest_unread_ms(own, {}, ends)
    assert oldest is not None
    assert before <= oldest <= time.time_ns() // 1_000_000
    assert oldest_unread_ms(own, {place: Progress(0, end) for place, (_, end) in ends.items()}, ends) is None
