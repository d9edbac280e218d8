"""Rules answer from names alone, the same each time, and say when they do not know."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enrichment import rules
from enrichment.question import CONTEXTS, GENRES, MOODS, Question


def ask(track: str, artist: str, album: str = "") -> Question:
    return Question.of({"track_name": track, "artist_name": artist, "album_name": album, "duration_ms": 180_000})


@pytest.mark.parametrize(
    ("question", "genre", "mood"),
    [
        (ask("Quiet Adagio", "Vienna Philharmonic"), "classical", "calm"),
        (ask("Hellfire of Death", "Infernal Legion"), "metal", "angry"),
        (ask("Noche de Fiesta", "Los Tigres"), "latin", "happy"),
        (ask("Rainy Study", "Sleepy Tapes"), "lo-fi", "calm"),
        (ask("Dusty Truck", "Lonesome Cowboy"), "country", "melancholic"),
        (ask("Qwxyz", "Brrt"), "unknown", "neutral"),
        (ask("", ""), "unknown", "neutral"),
    ],
)
def test_names_point_to_genre_and_mood(question: Question, genre: str, mood: str) -> None:
    """Known words lead to their genre and mood; unknown names are called unknown, with confidence 0."""
    answer = rules.answer(question)
    assert (answer.genre, answer.mood) == (genre, mood)
    assert (answer.genre_confidence == 0) == (genre == "unknown")
    assert (answer.provenance, answer.model) == ("rules", rules.VERSION)


@given(st.text(), st.text(), st.text())
def test_every_answer_is_within_its_bounds(track: str, artist: str, album: str) -> None:
    """Any names give labels of the lists and numbers between 0 and 1."""
    answer = rules.answer(ask(track, artist, album))
    assert answer.mood in MOODS and answer.genre in GENRES and answer.context in CONTEXTS
    assert all(0 <= x <= 1 for x in (answer.valence, answer.energy, answer.genre_confidence))
    assert answer == rules.answer(ask(track, artist, album))


def test_spelling_that_only_differs_in_case_and_blanks_asks_the_same() -> None:
    """Two platforms that write a title differently cost one question."""
    assert ask(" Slow  BLUES", "Miles").hash("m") == ask("slow blues", "miles ").hash("m")
    assert ask("slow blues", "Miles").hash("m") != ask("slow blues", "Miles").hash("other model")
