"""Which stretch of event time is shown, and in what steps."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from web.time_range import LENGTHS, STEPS_MAX, Choice, choose, epoch_ms, step_ms

NOW = datetime(2026, 3, 14, 12, 0, tzinfo=UTC)


def test_without_a_choice_live_events_show_an_hour_and_old_ones_everything() -> None:
    """A replay of old events is not hidden behind the last hour."""
    oldest = NOW - timedelta(days=30)
    assert choose(None, oldest, NOW, NOW).choice == "1h"
    old = choose(None, oldest, NOW - timedelta(days=1), NOW)
    assert old.choice == "all"
    assert old.since <= oldest


def test_the_stretch_ends_with_the_newest_event() -> None:
    """The last 15 minutes are those before the newest event, not before now."""
    newest = NOW - timedelta(days=400)
    shown = choose("15m", newest - timedelta(days=9), newest, NOW)
    assert (shown.until, shown.step_ms) == (newest, 15_000)
    assert timedelta(0) <= newest - timedelta(minutes=15) - shown.since < timedelta(seconds=15)


def test_one_event_alone_is_a_stretch() -> None:
    """The very first event is already shown."""
    shown = choose(None, NOW, NOW, NOW)
    assert shown.since <= NOW == shown.until == shown.complete_until


def test_counts_stop_at_the_last_complete_step_once_there_are_some() -> None:
    """A step that has just begun does not look like a drop."""
    shown = choose("1h", NOW - timedelta(days=1), NOW + timedelta(seconds=20), NOW)
    assert shown.step_ms == 60_000
    assert shown.complete_until == NOW - timedelta(milliseconds=1)


@given(st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=20_000)))
def test_no_span_needs_more_steps_than_a_chart_can_show(span: timedelta) -> None:
    """From a second to half a century, a chart has at most STEPS_MAX steps."""
    assert span <= timedelta(milliseconds=step_ms(span)) * STEPS_MAX


@given(st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1)), st.sampled_from([*LENGTHS, "all"]))
def test_a_stretch_starts_at_a_step(newest: datetime, choice: Choice) -> None:
    """The first step is as complete as the others."""
    newest = newest.replace(tzinfo=UTC)
    shown = choose(choice, newest - timedelta(days=3), newest, newest)
    assert epoch_ms(shown.since) % shown.step_ms == 0
    assert shown.since <= shown.until


@pytest.mark.parametrize(("span_s", "step_s"), [(0, 5), (3600, 60), (86400, 900), (7 * 86400, 21600)])
def test_steps_are_usual_ones(span_s: int, step_s: int) -> None:
    """People read quarters of an hour, not 14 minutes 24."""
    assert step_ms(timedelta(seconds=span_s)) == step_s * 1000
