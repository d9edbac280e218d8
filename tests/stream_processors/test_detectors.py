"""Detectors raise once, hold, and resolve; noise and small series do not wake anybody."""

from __future__ import annotations

import json
import random
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_processors.detectors import looping_bot
from stream_processors.detectors.alert import Alert, Series
from stream_processors.detectors.looping_bot import LISTENER, LoopingBot
from stream_processors.detectors.skip_rate import SkipRate
from stream_processors.detectors.volume import Volume

DE = Series("default", "spotify", "DE")
BOT = Series("default", user_id="bot", track_id="t1")
MINUTE = 60_000


def told(alerts: list[Alert]) -> list[tuple[str, str, int]]:
    return [(a.kind, a.status, a.onset // MINUTE) for a in alerts]


def volume(counts: list[int]) -> list[Alert]:
    detector = Volume()
    return [
        a for w, n in enumerate(counts) for a in detector.observe(w * MINUTE, (w + 1) * MINUTE, {DE: n} if n else {})
    ]


def played(plays: dict[Series, int]) -> pl.DataFrame:
    rows = [(one.tenant, one.user_id, one.track_id, count) for one, count in plays.items()]
    schema = {**dict.fromkeys(LISTENER, pl.String), "plays": pl.Int64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def test_an_outage_is_raised_once_and_resolved() -> None:
    """Silence of a platform is a drop from its first window on, critical, and resolved when events come back."""
    alerts = volume([100] * 20 + [0] * 10 + [100] * 5)
    assert told(alerts) == [("drop", "raised", 20), ("drop", "resolved", 20)]
    assert [a.severity for a in alerts] == ["critical", "info"]
    assert alerts[0].expected == 100


def test_a_surge_is_raised_and_a_new_level_learnt() -> None:
    """Five times the volume is a surge; a level that stays for an hour becomes normal."""
    assert told(volume([100] * 20 + [500] * 80)) == [("surge", "raised", 20), ("surge", "resolved", 20)]


def test_noise_of_a_healthy_series_raises_nothing() -> None:
    """1,000 windows of Poisson-like noise around 100 events stay quiet."""
    rnd = random.Random(7)
    assert volume([sum(rnd.random() < 0.1 for _ in range(1_000)) for _ in range(1_000)]) == []


def test_a_small_series_is_not_judged() -> None:
    """A series that expects 10 events may fall silent without waking anybody."""
    assert volume([10] * 30 + [0] * 30) == []


def test_one_odd_window_is_not_enough() -> None:
    """A single empty window, as at the end of a replay, is not confirmed."""
    assert volume([100] * 20 + [0] + [100] * 5) == []


def test_a_surge_beyond_doubt_needs_no_second_window() -> None:
    """One window with five times the volume is raised at once."""
    assert told(volume([100] * 20 + [500] + [100] * 5)) == [("surge", "raised", 20), ("surge", "resolved", 20)]


def test_a_skip_surge_is_raised_and_resolved() -> None:
    """A bad recommendation doubles the skip rate of a platform."""
    detector, alerts = SkipRate(), []
    for w, skips in enumerate([60] * 20 + [150] * 5 + [60] * 5):
        alerts += detector.observe(w * MINUTE, (w + 1) * MINUTE, {DE: 200}, {DE: skips})
    assert told(alerts) == [("skip_surge", "raised", 20), ("skip_surge", "resolved", 20)]
    assert alerts[0].observed == 0.75


def test_a_looping_bot_is_raised_and_a_fan_is_not() -> None:
    """Two starts of one track a minute are a bot after 10 minutes; a fan who repeats a 3-minute song never is."""
    detector, alerts = LoopingBot(), []
    fan = Series("default", user_id="fan", track_id="t1")
    for w in range(90):
        plays = {BOT: 2} if w < 40 else {}
        alerts += detector.observe(w * MINUTE, (w + 1) * MINUTE, played({**plays, **({fan: 2} if w % 6 == 0 else {})}))
    assert told(alerts) == [("looping_bot", "raised", 0), ("looping_bot", "resolved", 0)]
    assert [a.series for a in alerts] == [BOT, BOT]
    assert detector.listeners <= 1


minutes = st.dictionaries(st.sampled_from("abcd"), st.integers(2, 12), max_size=4)


@given(st.lists(st.tuples(st.integers(1, 40), minutes), max_size=25), st.booleans())
@settings(max_examples=200, deadline=None)
def test_looping_bots_are_those_of_a_plain_loop(log: list[tuple[int, dict[str, int]]], restart: bool) -> None:
    """Listener by listener and window by window, in any gaps and with restarts: the same alerts in the same order."""
    detector, known, raised, w = LoopingBot(), list[tuple[int, str, int]](), dict[str, int](), 0
    for gap, plays in log:
        w += gap
        found = detector.observe(
            w * MINUTE, (w + 1) * MINUTE, played({Series("default", None, None, u, "t"): n for u, n in plays.items()})
        )
        known = [(v, u, n) for v, u, n in known if v > w - 30] + [(w, u, n) for u, n in plays.items()]
        wanted = []
        for user in sorted({*raised, *(u for _, u, _ in known)}):
            own = [(v * MINUTE, n) for v, u, n in known if u == user]
            total = sum(n for _, n in own)
            if user not in raised and total >= 20:
                raised[user] = own[0][0]
                wanted.append((user, "raised", raised[user], total, own[-10:]))
            elif user in raised and total < 5:
                wanted.append((user, "resolved", raised.pop(user), total, own[-10:]))
        assert wanted == [(a.series.user_id, a.status, a.onset, a.observed, a.evidence["windows"]) for a in found]
        if restart:
            detector = LoopingBot(detector.windows, detector.raised)


def test_memory_for_listeners_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """When it is full, those who are watched already go on, and the first in order come in."""
    monkeypatch.setattr(looping_bot, "_LOOPS_MAX", 2)
    detector, users = LoopingBot(), "dbac"
    for w in range(4):
        rows = played({Series("default", None, None, user, "t"): 6 for user in users[: 1 + 3 * min(w, 1)]})
        alerts = detector.observe(w * MINUTE, (w + 1) * MINUTE, rows)
    assert detector.listeners == 2
    assert [alert.series.user_id for alert in alerts] == ["d"]
    assert [a.series.user_id for a in detector.observe(4 * MINUTE, 5 * MINUTE, rows)] == ["a"]


def test_every_alert_has_deterministic_keys_evidence_and_a_runbook() -> None:
    """A replay writes the same keys; the person who is woken finds the runbook in the repository."""
    first, again = volume([100] * 20 + [0] * 10), volume([100] * 20 + [0] * 10)
    record = first[0].record()
    assert record == again[0].record()
    assert record["transition_id"] == f"{record['alert_id']}/raised"
    assert json.loads(record["evidence"])["ratio"] == 0
    for name in ("volume", "skip_rate", "looping_bot"):
        assert (Path(__file__).parents[2] / "ops" / "runbooks" / f"{name.replace('_', '-')}.md").is_file()
