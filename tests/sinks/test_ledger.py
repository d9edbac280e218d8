"""The ledger's equation, from Kafka's offsets and the warehouse's counts."""

from __future__ import annotations

import dataclasses

from schemas import topics
from sinks.ledger import Counts, Ledger, figures, lags
from sinks.target import Progress

EVENTS0, EVENTS1, LETTERS = (topics.EVENTS, 0), (topics.EVENTS, 1), (topics.DEAD_LETTERS, 0)


def counts(
    loaded: int = 0, door: int = 0, about: int = 0, twice: int = 0, door_twice: int = 0, **own: Progress
) -> Counts:
    places = {"e0": EVENTS0, "e1": EVENTS1, "d": LETTERS}
    return Counts(loaded, door, about, twice, door + door_twice, {places[name]: at for name, at in own.items()})


def test_before_the_sink_has_started_all_is_in_flight() -> None:
    """Without a warehouse, what Kafka keeps is accepted and in flight."""
    assert figures(counts(), {EVENTS0: (10, 15)}) == Ledger(5, 0, 0, 0, 5)


def test_watermarks_are_no_part() -> None:
    """Control records count neither as accepted nor as in flight once they are read."""
    found = counts(loaded=4, e0=Progress(0, 5, controls=1))
    assert figures(found, {EVENTS0: (0, 5)}) == Ledger(4, 4, 0, 0, 0)


def test_a_broken_record_is_in_flight_until_its_letter_comes() -> None:
    """It counts once: accepted by the topic, dead-lettered by its row, in either order of arrival."""
    ends = {EVENTS0: (0, 3)}
    waiting = figures(counts(loaded=2, e0=Progress(0, 3, broken=1)), ends)
    done = figures(counts(loaded=2, about=1, e0=Progress(0, 3, broken=1)), ends)
    early = figures(counts(loaded=0, about=1, e0=Progress(0, 0)), ends)
    assert waiting == Ledger(3, 2, 0, 0, 1)
    assert done == Ledger(3, 2, 1, 0, 0)
    assert early == Ledger(3, 0, 1, 0, 2)
    assert waiting.balances and done.settled and early.balances
    assert not waiting.settled


def test_door_letters_count_as_often_as_they_were_sent() -> None:
    """A repeated letter of a door is accepted and deduplicated."""
    found = counts(loaded=2, door=3, twice=5, door_twice=4, e0=Progress(0, 3))
    assert figures(found, {EVENTS0: (0, 3)}) == Ledger(10, 2, 3, 5, 0)


def test_a_lost_record_shows() -> None:
    """What retention deleted before it was read leaves the ledger unbalanced, as does a missing row."""
    assert not figures(counts(loaded=2, e0=Progress(0, 5, expired=3)), {EVENTS0: (3, 5)}).balances
    assert not figures(counts(loaded=4, e0=Progress(0, 5)), {EVENTS0: (0, 5)}).balances


def test_a_letter_that_is_gone_shows() -> None:
    """Accepted is what was written down on arrival, not the rows that are left."""
    found = dataclasses.replace(counts(door=3), door_letters=2)
    assert figures(found, {}) == Ledger(3, 0, 2, 0, 0)


def test_lag_is_per_topic() -> None:
    """Records not yet in the warehouse, over all partitions of a topic."""
    found = counts(e0=Progress(0, 5), d=Progress(0, 2))
    assert lags(found.progress, {EVENTS0: (0, 9), EVENTS1: (4, 7), LETTERS: (0, 2)}) == {
        topics.EVENTS: 7,
        topics.DEAD_LETTERS: 0,
    }
