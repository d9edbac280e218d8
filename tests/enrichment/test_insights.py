"""The insight cache: each question once, the most-played first, and records only when they say something new."""

from __future__ import annotations

from typing import Any

from enrichment import rules
from enrichment.insights import Insights


def track(number: int, name: str = "", artist: str = "Vienna Philharmonic") -> dict[str, Any]:
    return {
        "track_id": f"t{number}",
        "tenant": "default",
        "track_name": name or f"Sonata {number}",
        "artist_name": artist,
        "album_name": None,
        "duration_ms": 1,
    }


def window(number: int, plays: int, skips: int = 0) -> dict[str, Any]:
    counts = {"plays": plays, "skips": skips, "likes": 0, "shares": 0}
    return {"scope": "track", "tenant": "default", "track_id": f"t{number}", **counts}


def settle(insights: Insights) -> list[dict[str, Any]]:
    while questions := insights.next_questions(100):
        insights.answered({q: rules.answer(q) for q in questions})
    return list(insights.records(0))


def test_the_most_played_are_asked_first() -> None:
    """With room for two questions, the two most-played tracks are asked."""
    insights = Insights(rules.VERSION)
    for number in range(5):
        insights.told(track(number))
        insights.counted(window(number, plays=number))
    assert [q.track_name for q in insights.next_questions(2)] == ["sonata 4", "sonata 3"]


def test_a_million_plays_and_two_platforms_cost_one_question() -> None:
    """Tracks with the same context share an answer, and a told track is not asked again."""
    insights = Insights(rules.VERSION)
    insights.told(track(1, "Nocturne"))
    insights.told(track(2, "NOCTURNE"))
    insights.told(track(1, "Nocturne"))
    assert len(insights.next_questions(10)) == 1
    assert {record["track_id"] for record in settle(insights)} == {"t1", "t2"}
    assert len(insights) == 0


def test_a_restart_asks_and_writes_nothing_again() -> None:
    """What stands in track-insights is the cache of the next run."""
    insights = Insights(rules.VERSION)
    for number in range(8):
        insights.told(track(number))
    written = settle(insights)
    newest = {record["track_id"]: record for record in written}
    again = Insights(rules.VERSION)
    for record in newest.values():
        again.remember(record)
    for number in range(8):
        again.told(track(number))
    assert again.next_questions(10) == []
    assert list(again.records(0)) == []
    assert again.take_cache_hits() == 8


def test_another_model_is_asked_anew() -> None:
    """With a key set later, what rules answered is asked of Claude."""
    insights = Insights(rules.VERSION)
    insights.told(track(1))
    (record,) = settle(insights)
    again = Insights("claude")
    again.remember(record)
    again.told(track(1))
    assert len(again.next_questions(10)) == 1


def test_tracks_told_early_get_their_neighbours_later() -> None:
    """The first track of a genre has no similar ones yet; it is written again when there are some."""
    insights = Insights(rules.VERSION)
    insights.told(track(0))
    assert [record["similar_tracks"] for record in settle(insights)] == [[]]
    for number in range(1, 8):
        insights.told(track(number))
    newest = {record["track_id"]: record for record in settle(insights)}
    assert len(newest["t0"]["similar_tracks"]) == 5
    assert "t0" not in newest["t0"]["similar_tracks"]


def test_a_score_that_moves_is_written_again() -> None:
    """Skips lower the engagement score, and the insight goes out once it has moved enough."""
    insights = Insights(rules.VERSION)
    insights.told(track(1))
    (first,) = settle(insights)
    insights.counted(window(1, plays=0))
    assert settle(insights) == []
    insights.counted(window(1, plays=50, skips=50))
    (second,) = settle(insights)
    assert second["engagement_score"] < first["engagement_score"] - 0.1
    assert second["insight_id"] != first["insight_id"]


def test_a_client_that_names_only_the_id_hides_nothing() -> None:
    """An untold track does not replace a told one; alone it is answered as unknown."""
    insights = Insights(rules.VERSION)
    bare = {**track(1), "track_name": None, "artist_name": None, "duration_ms": None}
    insights.told(track(1))
    settle(insights)
    insights.told(bare)
    assert settle(insights) == []
    insights.told({**bare, "track_id": "t9"})
    (unknown,) = settle(insights)
    assert unknown["genre_prediction"] == {"label": "unknown", "confidence": 0.0}
