"""Every chart: its SQL answers, its spec compiles, and its numbers are right."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from schemas.settings import Settings
from tests.web.conftest import NEWEST, TRACKS
from warehouse.runner import reader
from web import charts
from web.time_range import choose

ALL = charts.load()
SHOWN = choose("all", NEWEST - timedelta(minutes=40), NEWEST, NEWEST)


def rows(key: str, settings: Settings) -> list[dict[str, Any]]:
    """The rows of a chart."""
    return reader(settings).query(ALL[key].sql, SHOWN.params).rows


@pytest.mark.parametrize("key", ALL)
def test_a_chart_without_events_is_empty_and_compiles(key: str, empty: Settings) -> None:
    """The very first look at the page finds no error."""
    answer = reader(empty).query(ALL[key].sql, SHOWN.params)
    assert answer.rows == []
    assert "<svg" in charts.to_svg(ALL[key], answer)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("key", ALL)
def test_a_chart_with_events_is_drawn(key: str, theme: charts.Theme, filled: Settings) -> None:
    """Every chart has rows, and Vega-Lite draws every field that it names."""
    answer = reader(filled).query(ALL[key].sql, SHOWN.params)
    assert answer.rows
    svg = charts.to_svg(ALL[key], answer, theme)
    assert "undefined" not in svg
    assert "NaN" not in svg
    used = set(fields(ALL[key].spec)) - {"label", "place"}
    assert used <= set(answer.columns)


def fields(spec: Any) -> list[str]:
    """Every `field` of a spec."""
    if isinstance(spec, list):
        return [name for item in spec for name in fields(item)]
    if not isinstance(spec, dict):
        return []
    own = [spec["field"]] if isinstance(spec.get("field"), str) else []
    return own + [name for item in spec.values() for name in fields(item)]


def test_every_view_has_charts_and_each_says_what_it_shows() -> None:
    """Title, description and what an empty chart waits for are part of a chart."""
    assert {chart.view for chart in ALL.values()} == set(charts.VIEWS)
    assert all(chart.title and chart.description and chart.empty for chart in ALL.values())


def test_a_chart_is_exported_as_png(filled: Settings) -> None:
    """For alerts and share cards."""
    answer = reader(filled).query(ALL["genre/genre_mix"].sql, SHOWN.params)
    assert charts.to_png(ALL["genre/genre_mix"], answer).startswith(b"\x89PNG")


def test_platform_numbers_add_up(filled: Settings) -> None:
    """400 plays, every third skipped, in every chart that counts them."""
    assert sum(row["plays"] for row in rows("behaviour/plays_by_hour", filled)) == 400
    assert sum(row["plays"] for row in rows("behaviour/devices", filled)) == 400
    assert sum(row["plays"] for row in rows("business/plays_by_country", filled)) == 400
    assert sum(row["plays"] for row in rows("genre/genre_mix", filled)) == 400
    assert sum(row["plays"] for row in rows("mood/mood_mix", filled)) == 400
    assert sum(row["plays"] for row in rows("mood/listening_context", filled)) == 400
    overall = rows("genre/skip_rate_by_genre", filled)[0]["overall"]
    assert overall == pytest.approx(134 / 400, abs=0.005)


def test_completion_counts_every_play_once(filled: Settings) -> None:
    """Skipped plays end early, the others late."""
    found = rows("behaviour/completion", filled)
    assert sum(row["plays"] for row in found) == 400
    assert sum(row["plays"] for row in found if row["ended_by"] == "skip") == 134
    assert max(row["heard"] for row in found if row["ended_by"] == "skip") <= 0.4


def test_likes_and_shares_are_per_thousand_plays(filled: Settings) -> None:
    """40 likes and 16 shares over 400 plays."""
    plays = dict.fromkeys(("spotify", "apple_music", "youtube_music"), 0)
    for row in rows("behaviour/plays_by_hour", filled):
        plays[row["platform"]] += row["plays"]
    found = rows("business/likes_and_shares", filled)
    likes = sum(row["per_1000_plays"] * plays[row["platform"]] / 1000 for row in found if row["reaction"] == "likes")
    shares = sum(row["per_1000_plays"] * plays[row["platform"]] / 1000 for row in found if row["reaction"] == "shares")
    assert (round(likes), round(shares)) == (40, 16)


def test_a_listener_is_new_once(filled: Settings) -> None:
    """40 listeners are new, each in one step only."""
    found = rows("business/new_and_returning", filled)
    assert sum(row["listeners"] for row in found if row["listener"] == "new") == 40


def test_bridges_are_the_tracks_named_most(filled: Settings) -> None:
    """Each of the tracks is named by four others; names come from the catalogue."""
    found = rows("similar/hubs", filled)
    assert [row["named_by"] for row in found] == [4] * 10
    assert all(row["track_name"].startswith("Song number") for row in found)
    assert len(found) <= TRACKS


def test_the_rate_of_a_step_that_has_just_begun_is_no_drop(filled: Settings) -> None:
    """Events per minute stay level up to the newest event."""
    found = [row for row in rows("behaviour/events_per_minute", filled) if row["event_type"] == "play"]
    assert all(row["events_per_minute"] == pytest.approx(10, abs=5) for row in found)
