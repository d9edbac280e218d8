"""The simulator's own output, counted and held against what is known of real listeners."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from producers.simulator import popularity
from producers.simulator.daytime import BIN_MS, DAY_MS, hours_of_week
from producers.simulator.people import USUAL_LISTEN_MS
from producers.simulator.rows import Rows
from producers.simulator.scenario import Behaviour, Scenario, load
from producers.simulator.stream import Plan, Stream
from producers.simulator.world import LIKE, PLAY, RESUMED, SHARE, SKIP

START_MS = 1_772_409_600_000
"""Monday, 2 March 2026: clocks in the United States change on the Sunday."""

DAYS = 8
EVENTS = 8_000_000
_ENDED = {"5 s": 5_000, "10 s": 10_000, "30 s": 30_000, "the end": 1 << 40}
_LAMERE = (24.1, 29.0, 35.1, 48.6)
_NEIGHBOURS, _HITS = 5, 1_000
_MORNING, _NOON = slice(6, 12), 13


@dataclass(frozen=True)
class Target:
    """What is known, what was measured, and how far apart they may be; `unit` is that of all three."""

    name: str
    target: float
    measured: float
    tolerance: float
    unit: str
    source: str

    @property
    def ok(self) -> bool:
        """Whether the measured value is within the tolerance."""
        return abs(self.measured - self.target) <= self.tolerance

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {**asdict(self), "ok": self.ok}


@dataclass(frozen=True)
class Report:
    """The table, and the curves of the picture: plays by local hour (of weekday and weekend), and by rank of track."""

    seed: int
    events: int
    targets: list[Target]
    by_hour: dict[str, list[float]]
    by_rank: npt.NDArray[np.int64]

    @property
    def ok(self) -> bool:
        """Whether every target is met."""
        return all(target.ok for target in self.targets)

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "seed": self.seed,
            "events": self.events,
            "ok": self.ok,
            "targets": [target.as_json() for target in self.targets],
            "plays_by_local_hour": self.by_hour,
        }


def reference() -> Scenario:
    """Spotify with a catalogue of the size for which the figures of popularity hold, and every ending told."""
    spotify = load("spotify")
    behaviour = spotify.behaviour.model_copy(update={"completion_reported": 1.0})
    changes = {"tracks": popularity.REFERENCE_TRACKS, "artists": 100_000, "incidents": [], "behaviour": behaviour}
    return spotify.model_copy(update=changes)


def report(seed: int, events: int = EVENTS) -> Report:
    """Simulates eight days and counts; the hours are those of the last seven, so that each comes once."""
    plan = Plan("report", reference(), seed, events / (DAYS * DAY_MS / 1000), START_MS, events)
    counts = _Counts(stream := Stream(plan))
    for rows in stream.batches():
        counts.take(rows)
    return Report(seed, counts.events, counts.targets(), counts.by_hour(), np.sort(counts.tracks)[::-1])


class _Counts:
    def __init__(self, stream: Stream) -> None:
        self.stream, scenario = stream, stream.plan.scenario
        self.events = self.skips = self.heard_ms = self.broken = self.again = self.offline = self.late = 0
        self.ended = np.zeros(len(_ENDED), np.int64)
        self.devices = np.zeros((2, len(scenario.devices)), np.int64)  # plays, skips
        self.tracks = np.zeros(scenario.tracks, np.int64)
        self.hours = np.zeros(7 * 24, np.int64)
        self.fresh = 0
        self.acts = np.zeros((2, 3))  # of other scenes, of loved ones: ms heard, likes, shares
        self._first_ms = START_MS - DAY_MS
        zones = [place.zone for place in scenario.countries.values()]
        self._local = np.stack([hours_of_week(zone, self._first_ms, DAYS + 3) for zone in zones])
        hits = stream.catalogue.greatest_hits(_HITS)
        self._hit = np.full(scenario.tracks, -1)
        self._hit[hits] = np.arange(_HITS)
        self._hit_scene = stream.catalogue.scene[hits]
        self._together = np.zeros((_HITS, _HITS), np.int64)
        self._numbers: list[npt.NDArray[np.int64]] = []

    def take(self, rows: Rows) -> None:
        people, catalogue = self.stream.crowd.people, self.stream.catalogue
        kind, track, listener = rows["kind"], rows["track"], rows["listener"]
        plays = (kind == PLAY) & (rows["position"] == 0) & (rows["reason_start"] != RESUMED)
        self.events += len(rows)
        skipped = rows["position"][kind == SKIP]
        self.skips += len(skipped)
        self.ended += [int((skipped < ms).sum()) for ms in _ENDED.values()]
        self.heard_ms += int(np.maximum(rows["heard"], 0).sum())
        self.broken += int((rows["fault"] > 0).sum())
        self.offline += int(rows["offline"].sum())
        self.late += int((rows["arrival"] - rows["at"] > 70_000).sum())
        self._numbers.append(rows["number"].copy())
        for row, wanted in enumerate((plays, kind == SKIP)):
            self.devices[row] += np.bincount(people["device"][listener[wanted]], minlength=self.devices.shape[1])
        np.add.at(self.tracks, track[plays], 1)
        self.fresh += int(catalogue.is_fresh[track[plays]].sum())
        whole_week = plays & (rows["at"] >= START_MS + DAY_MS) & (rows["at"] < START_MS + DAYS * DAY_MS)
        place = (rows["at"][whole_week] - self._first_ms) // BIN_MS
        self.hours += np.bincount(
            self._local[people["country"][listener[whole_week]], place], minlength=len(self.hours)
        )
        loved = (people["loves"][listener] == catalogue.scene[track][:, None]).any(axis=1)
        for column, amount in enumerate((np.maximum(rows["heard"], 0), kind == LIKE, kind == SHARE)):
            self.acts[:, column] += np.bincount(loved, amount, 2)
        self._pair(rows[plays])

    def _pair(self, plays: Rows) -> None:
        """Counts hits that were heard one after the other in a session."""
        session = plays["listener"].astype(np.int64) << 32 | plays["session"]
        order = np.lexsort((plays["at"], session))
        session, hit = session[order], self._hit[plays["track"][order]]
        both = (session[1:] == session[:-1]) & (hit[1:] >= 0) & (hit[:-1] >= 0) & (hit[1:] != hit[:-1])
        first, second = hit[:-1][both], hit[1:][both]
        np.add.at(self._together, (first, second), 1)
        np.add.at(self._together, (second, first), 1)

    def by_hour(self) -> dict[str, list[float]]:
        week = self.hours.reshape(7, 24)
        days = {"weekday": week[:5].mean(axis=0), "weekend": week[5:].mean(axis=0)}
        return {name: [round(float(one), 1) for one in mean] for name, mean in days.items()}

    def targets(self) -> list[Target]:
        plays, hours = int(self.tracks.sum()), {name: np.array(one) for name, one in self.by_hour().items()}
        weekday, weekend = hours["weekday"], hours["weekend"]
        first = np.cumsum(np.sort(self.tracks)[::-1]) / plays * 100
        others, loved = self.acts[:, 1:] / self.acts[:, :1]
        numbers = np.concatenate(self._numbers)
        self.again = len(numbers) - len(np.unique(numbers))
        scenario = self.stream.plan.scenario
        skipped = self.devices[1] / self.devices[0] * 100
        on = dict(zip(scenario.devices, skipped.tolist(), strict=True))
        behaviour, faults = scenario.behaviour, scenario.faults
        known_offline = _offline(behaviour) * 100
        lamere, asked, ours = "Lamere 2014", "project", "scenario"
        peak = float(weekend[_MORNING].max() / weekend[_NOON])
        return [
            *(
                Target(f"plays skipped before {name}", known, count / plays * 100, 0.7, "%", lamere)
                for name, known, count in zip(_ENDED, _LAMERE, self.ended.tolist(), strict=True)
            ),
            Target("skips per hour of listening", 14.7, self.skips / (self.heard_ms / 3.6e6), 0.4, "", lamere),
            Target("plays skipped on mobile", 51.1, on["mobile"], 0.8, "%", lamere),
            Target("plays skipped on desktop", 40.1, on["desktop"], 0.8, "%", lamere),
            Target("local hour with the fewest plays, weekday", 2, float(weekday.argmin()), 0, "h", asked),
            Target("local hour of the morning peak, weekday", 9, float(weekday[:13].argmax()), 0, "h", asked),
            Target("local hour of the evening peak, weekday", 18, float(weekday[13:].argmax() + 13), 0, "h", asked),
            Target("weekday mornings over noon (a peak is above 1)", 1.3, _over_noon(weekday), 0.15, "", asked),
            Target("weekend mornings over noon (no peak: below 1)", 0.85, peak, 0.15, "", asked),
            Target("plays of the first 1,000 tracks", 14, float(first[999]), 1, "%", asked),
            Target("plays of the first 50,000 tracks", 58, float(first[49_999]), 2, "%", asked),
            Target("plays of new releases", behaviour.new_releases * 100, self.fresh / plays * 100, 0.3, "%", ours),
            Target("nearest co-heard tracks of the same scene", 100, self._alike(), 10, "%", ours),
            Target("likes an hour, loved scenes over others", 3, float(loved[0] / others[0]), 0.3, "", ours),
            Target("shares an hour, loved scenes over others", 3, float(loved[1] / others[1]), 0.5, "", ours),
            Target("events heard offline", known_offline, self.offline / self.events * 100, 0.15, "%", ours),
            Target("events told twice", faults.duplicate * 100, self.again / self.events * 100, 0.02, "%", ours),
            Target("broken events", faults.broken * 100, self.broken / self.events * 100, 0.003, "%", ours),
        ]

    def _alike(self) -> float:
        """Of the five nearest neighbours (cosine) of the 200 greatest hits, how many are of the same scene."""
        total = np.maximum(self._together.sum(axis=1), 1)
        cosine = self._together / np.sqrt(np.outer(total, total))
        nearest = np.argsort(-cosine[:200], axis=1)[:, :_NEIGHBOURS]
        return float((self._hit_scene[nearest] == self._hit_scene[:200, None]).mean() * 100)


def _offline(behaviour: Behaviour) -> float:
    """Share of events before the device has a connection again: both the session and the wait are memoryless."""
    session_minutes = behaviour.tracks_per_session * USUAL_LISTEN_MS / 60_000
    return behaviour.offline * behaviour.offline_minutes / (behaviour.offline_minutes + session_minutes)


def _over_noon(hours: npt.NDArray[np.float64]) -> float:
    return float(hours[_MORNING].max() / hours[_NOON])
