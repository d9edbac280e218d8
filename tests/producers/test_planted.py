"""What is planted: each kind is in the events where its label says, as strong as it says, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from producers.simulator.kinds import KINDS
from producers.simulator.rows import Rows, joined
from producers.simulator.scenario import Incident, load
from producers.simulator.staged import FARM_HEARD_MS
from producers.simulator.stream import Plan, Stream
from producers.simulator.world import LIKE, PAUSE, PLAY, SHARE, SKIP

START, RATE, MINUTES = 1_790_000_000_000, 300, 20
SPOTIFY = load("spotify")
WHERE = {
    "country": dict.fromkeys(("surge", "skip_surge", "streaming_farm", "looping_bot", "like_bombing", "holiday"), "DE"),
    "app_version": dict.fromkeys(("lost_pauses", "clock_broken"), "8.9.94"),
}
MAGNITUDES = {
    "drop": 0.9, "surge": 4, "lost_pauses": 0.9, "skip_surge": 1.8, "streaming_farm": 10, "looping_bot": 33,
    "like_bombing": 120, "share_storm": 0.5, "takedown": 1, "clock_broken": 3, "duplicated": 0.5, "new_release": 0.1,
    "viral_song": 0.1, "holiday": 3,
}  # fmt: skip


class Planted:
    """A stream in which one thing is planted from minute 8 to 16, and its rows."""

    def __init__(self, kind: str, **where: str) -> None:
        incident = Incident(kind=kind, start=0.4, end=0.8, magnitude=MAGNITUDES[kind], **where)
        scenario = SPOTIFY.model_copy(update={"incidents": [incident]})
        self.stream = Stream(Plan("planted", scenario, 5, RATE, START, RATE * 60 * MINUTES))
        self.rows: Rows = joined(list(self.stream.batches()))
        self.one = self.stream.incidents[0]
        minute = (self.rows["at"] - START) // 60_000
        self.inside, self.before = (minute >= 8) & (minute < 16), (minute >= 1) & (minute < 8)
        people = self.stream.crowd.people[self.rows["listener"]]
        self.country = np.array(self.stream.crowd.countries)[people["country"]]
        self.version = np.array(self.stream.crowd.versions)[people["version"]]
        self.hit = np.isin(self.rows["track"], self.one.tracks)

    def kind(self, kind: int) -> npt.NDArray[np.bool_]:
        found: npt.NDArray[np.bool_] = self.rows["kind"] == kind
        return found

    def change(self, which: npt.NDArray[np.bool_]) -> float:
        """Events a minute inside, as a multiple of those before."""
        return float((which & self.inside).sum() / 8) / max(1 / 7, float((which & self.before).sum() / 7))

    def share(self, of: npt.NDArray[np.bool_], which: npt.NDArray[np.bool_]) -> float:
        return float((of & which).sum() / which.sum())


@cache
def planted(kind: str) -> Planted:
    return Planted(kind, **{field: places[kind] for field, places in WHERE.items() if kind in places})


def everything(p: Planted) -> npt.NDArray[np.bool_]:
    return np.ones(len(p.rows), np.bool_)


def ratio_of(kind: int, of: int) -> Callable[[Planted], float]:
    def change(p: Planted) -> float:
        inside, before = (
            p.share(p.kind(kind), part & (p.kind(kind) | p.kind(of)) & (p.country == "DE"))
            for part in (p.inside, p.before)
        )
        return inside / before

    return change


CASES: list[tuple[str, Callable[[Planted], float], float, float]] = [
    ("drop", lambda p: p.change(everything(p)), 0.08, 0.13),
    ("surge", lambda p: p.change(p.country == "DE"), 3, 4.6),
    ("holiday", lambda p: p.change(p.country == "DE"), 2.2, 3.5),
    ("surge", lambda p: p.change(p.country != "DE"), 0.85, 1.15),
    ("lost_pauses", lambda p: p.change(p.kind(PAUSE) & (p.version == "8.9.94")), 0.07, 0.14),
    ("lost_pauses", lambda p: p.change(p.kind(PAUSE) & (p.version != "8.9.94")), 0.85, 1.15),
    ("skip_surge", ratio_of(SKIP, PLAY), 1.3, 1.9),
    ("share_storm", lambda p: p.share(p.kind(SHARE), p.inside & p.hit & (p.kind(SHARE) | p.kind(PLAY))), 0.28, 0.4),
    ("takedown", lambda p: p.change(p.hit & p.kind(PLAY)), 0, 0.1),
    ("clock_broken", lambda p: p.share(p.rows["skew"] == 3 * 3_600_000, p.inside & (p.version == "8.9.94")), 1, 1),
    ("clock_broken", lambda p: p.share(p.rows["skew"] == 3 * 3_600_000, p.before), 0, 0),
    ("duplicated", lambda p: len(np.unique(p.rows["number"][p.inside])) / p.inside.sum(), 0.64, 0.70),
    ("viral_song", lambda p: p.share(p.hit, p.kind(PLAY) & p.inside), 0.04, 0.12),
    ("viral_song", lambda p: p.share(p.hit, p.kind(PLAY) & p.before), 0, 0.01),
    ("new_release", lambda p: p.share(p.hit, p.kind(PLAY) & p.inside), 0.04, 0.12),
    ("like_bombing", lambda p: p.share(p.kind(LIKE), p.hit & p.inside & (p.country == "DE")), 0.9, 1),
    ("like_bombing", lambda p: float((p.kind(LIKE) & p.hit & p.inside).sum()) / 8, 110, 135),
]


@pytest.mark.parametrize(
    ("kind", "measure", "least", "most"), CASES, ids=lambda one: one if isinstance(one, str) else ""
)
def test_what_is_planted_is_in_the_events(
    kind: str, measure: Callable[[Planted], float], least: float, most: float
) -> None:
    """Inside its time and place the events differ as much as the magnitude says, elsewhere not."""
    assert least <= measure(planted(kind)) <= most


def test_a_farm_hears_an_artist_for_31_seconds() -> None:
    """As many accounts as the label says play the tracks of one artist, each for a second more than counts."""
    p = planted("streaming_farm")
    accounts = np.arange(p.one.guests.start, p.one.guests.stop)
    theirs = np.isin(p.rows["listener"], accounts)
    assert len(accounts) == 10
    ends = p.rows[theirs & p.kind(PAUSE)]
    assert set(ends["heard"].tolist()) == {FARM_HEARD_MS}
    assert len(ends) > 100
    assert len(set(p.stream.catalogue.artist[p.rows["track"][theirs]].tolist())) == 1


def test_a_bot_plays_one_track_again_and_again() -> None:
    """Every 33 s, by the user whom the label names."""
    p = planted("looping_bot")
    bot = p.stream.labels()[0]["dimension"]["user_id"]
    theirs = p.rows[(p.rows["listener"] == p.one.guests.start) & p.kind(PLAY)]
    assert p.stream.user_id(p.one.guests.start) == bot
    assert len(np.unique(theirs["track"])) == 1
    assert np.diff(np.unique(theirs["at"])).mean() == pytest.approx(33_000, rel=0.05)


@pytest.mark.parametrize("kind", KINDS)
def test_labels_say_what_was_planted(kind: str) -> None:
    """Kind, time, dimension and magnitude, and whether a detector should find it."""
    p = planted(kind)
    (label,) = p.stream.labels()
    assert label["kind"] == kind
    assert label["is_incident"] == (kind not in ("holiday", "new_release", "viral_song"))
    assert (label["start"], label["magnitude"]) == ("2026-09-21T14:21:20.000Z", MAGNITUDES[kind])
    dimension: dict[str, Any] = label["dimension"]
    assert dimension["platform"] == "spotify"
    if p.one.tracks:
        assert dimension["track_ids"] == p.stream.catalogue.track_ids.take(p.one.tracks).to_pylist()


def test_every_kind_is_shipped() -> None:
    """The scenarios of the three platforms plant each kind, within the time of a live round."""
    for name in ("spotify", "apple_music", "youtube_music"):
        assert {incident.kind for incident in load(name).incidents} == set(KINDS)
