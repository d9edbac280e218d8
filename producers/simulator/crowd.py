"""People listening: seats that are always taken, each by one listener after another, simulated as columns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from producers.simulator.catalogue import Catalogue, Floats, Ints, shares
from producers.simulator.incidents import Planted
from producers.simulator.scenario import Scenario

ROW = np.dtype(
    [
        ("arrival", "i8"),  # when it reaches the door, ms
        ("at", "i8"),  # when it happened, ms
        ("number", "i8"),  # makes the event_id
        ("listener", "i4"),
        ("session", "i4"),
        ("track", "i4"),
        ("kind", "i1"),
        ("position", "i4"),
        ("heard", "i4"),  # -1: not told
        ("reason_start", "i1"),
        ("reason_end", "i1"),
        ("shuffle", "?"),
        ("offline", "?"),
        ("fault", "i1"),  # 0: none
    ]
)
Rows = npt.NDArray[np.void]

PLAY, PAUSE, SKIP, LIKE, SHARE = range(5)
REASONS_START = ("clickrow", "trackdone", "fwdbtn", "playbtn")
REASONS_END = ("trackdone", "fwdbtn", "endplay", "logout")
_CLICKED, _DONE, _FORWARD, _RESUMED = range(4)
_HEARD, _FORWARDED, _STOPPED, _LEFT = range(4)

# When people skip (Lamere 2014): half of the skips come within 5 s, six of ten within 10 s, seven within 30 s.
_SKIP_SHARE = np.array([0.0, 0.5, 0.6, 0.72])
_SKIP_MS = np.array([800.0, 5_000.0, 10_000.0, 30_000.0])
_NEVER = np.iinfo(np.int64).max


@dataclass
class Listeners:
    """Who listens, by index."""

    country: Ints
    city: Ints
    device: Ints
    app_version: Ints
    genre: Ints
    patience: Floats

    @classmethod
    def of(cls, scenario: Scenario, genres: Floats, country: Ints, random: np.random.Generator) -> Listeners:
        """Listeners of the given countries."""
        n = len(country)
        cities = np.array([len(place.cities) for place in scenario.countries.values()])
        return cls(
            country,
            (random.random(n) * cities[country]).astype(np.int64),
            _choose(list(scenario.devices.values()), random, n),
            _choose(list(scenario.app_versions.values()), random, n),
            np.searchsorted(genres, random.random(n), side="right"),
            random.uniform(0.6, 1.4, n),
        )


class Crowd:
    """`seats` people who listen at any time, from `start_ms` on, and what the planted incidents make of them."""

    def __init__(
        self,
        scenario: Scenario,
        catalogue: Catalogue,
        seats: int,
        start_ms: int,
        random: np.random.Generator,
        incidents: list[Planted],
    ) -> None:
        self.scenario, self.catalogue, self.incidents, self.random = scenario, catalogue, incidents, random
        self.countries = list(scenario.countries)
        weights = np.array([place.weight for place in scenario.countries.values()])
        extra = [_extra_seats(i, seats * weights[self.countries.index(i.country)] / weights.sum()) for i in incidents]
        self.seats = seats + sum(extra)
        self.pool = -(-scenario.listeners // seats)
        country = np.searchsorted(shares(weights), random.random(self.seats * self.pool), side="right")
        self.next_ms: Ints = np.full(self.seats, _NEVER, np.int64)
        self.until_ms: Ints = np.full(self.seats, _NEVER, np.int64)
        self.next_ms[:seats] = start_ms + (random.random(seats) * 120_000).astype(np.int64)
        first = seats
        for incident, count in zip(incidents, extra, strict=True):
            incident.seats = slice(first, first + count)
            who = np.arange(self.pool)[:, None] * self.seats + np.arange(first, first + count)
            country[who.ravel()] = self.countries.index(incident.country)
            first += count
        self.listeners = Listeners.of(scenario, catalogue.genre_shares, country, random)
        self._listener: Ints = self._newcomers(np.arange(self.seats))
        self._session: Ints = np.arange(self.seats)
        self._sessions = self.seats
        self._left: Ints = random.geometric(1 / scenario.behaviour.tracks_per_session, self.seats)
        self._shuffle = random.random(self.seats) < scenario.behaviour.shuffle
        self._offline = random.random(self.seats) < scenario.behaviour.offline
        self._reason: Ints = np.full(self.seats, _CLICKED)
        self._resumes: Ints = np.full(self.seats, -1)
        self._position: Ints = np.zeros(self.seats, np.int64)

    def _newcomers(self, seats: Ints) -> Ints:
        """The next listeners of seats: each seat has its own people, so nobody sits in two."""
        return self.random.integers(0, self.pool, len(seats)) * self.seats + seats

    def begin(self, incident: Planted) -> list[Rows]:
        """Fills the extra seats of a surge for its time; gives everything that a bot does."""
        seats = incident.seats
        if incident.kind == "surge":
            count = seats.stop - seats.start
            self.next_ms[seats] = incident.start_ms + (self.random.random(count) * 60_000).astype(np.int64)
            self.until_ms[seats] = incident.end_ms
        return [self._loop(incident)] if incident.kind == "looping_bot" else []

    def _loop(self, incident: Planted) -> Rows:
        """The same listener plays the same track again and again, just long enough to be counted."""
        every_ms = round(incident.magnitude * 1000)
        starts = np.arange(incident.start_ms, incident.end_ms, every_ms)
        rows = np.zeros(2 * len(starts), ROW)
        heard = max(every_ms - 700, 1)
        rows["listener"], rows["session"] = incident.seats.start, self._sessions
        self._sessions += 1
        rows["track"] = self.random.integers(0, len(self.catalogue.track_ids))
        rows["heard"], rows["reason_start"], rows["reason_end"] = -1, -1, -1
        plays, ends = rows[0::2], rows[1::2]
        plays["at"] = starts + self.random.integers(0, 400, len(starts))
        plays["reason_start"] = _CLICKED
        ends["at"], ends["kind"], ends["position"], ends["heard"] = plays["at"] + heard, PAUSE, heard, heard
        ends["reason_end"] = _STOPPED
        return rows

    def advance(self, end_ms: int) -> list[Rows]:
        """Every event of the listens that begin before `end_ms`, without order."""
        rows: list[Rows] = []
        while len(seats := np.flatnonzero(self.next_ms < end_ms)):
            rows.extend(self._listen(seats))
        return rows

    def _listen(self, seats: Ints) -> list[Rows]:
        """One listen in each seat; moves the seats to their next."""
        random, behaviour, n = self.random, self.scenario.behaviour, len(seats)
        start, listener = self.next_ms[seats], self._listener[seats]
        favourite = random.random(n) < behaviour.favourite_genre
        other = np.searchsorted(self.catalogue.genre_shares, random.random(n), side="right")
        track = self.catalogue.pick(np.where(favourite, self.listeners.genre[listener], other), random.random(n))
        resumes = self._resumes[seats]
        track = np.where(resumes >= 0, resumes, track)
        position = np.where(resumes >= 0, self._position[seats], 0)
        left_ms = np.maximum(self.catalogue.duration_ms[track] - position, 1)

        skip = np.minimum(behaviour.skip * self.listeners.patience[listener] * self._skip_factor(start, listener), 0.97)
        ending, how = random.random(n), random.random(n)
        skips, pauses = ending < skip, (ending >= skip) & (ending < skip + behaviour.pause)
        skipped_at = np.interp(how, _SKIP_SHARE, _SKIP_MS) + np.maximum(how - 0.72, 0) / 0.28 * np.maximum(
            left_ms - 30_000, 0
        )
        heard = np.where(skips, skipped_at, np.where(pauses, 2_000 + how * left_ms, left_ms))
        heard = np.minimum(heard, left_ms).astype(np.int64)
        skips &= heard < left_ms
        pauses &= heard < left_ms
        end = start + heard

        self._left[seats] -= 1
        leaves = self._left[seats] <= 0
        resumed = pauses & ~leaves & (random.random(n) < behaviour.resume)
        reason_end = np.where(skips, _FORWARDED, np.where(pauses, _STOPPED, _HEARD))
        reason_end = np.where(leaves & (pauses | ~skips) & (how < 0.3), _LEFT, reason_end)
        told = skips | pauses | leaves | (random.random(n) < behaviour.completion_reported)

        plays = np.zeros(n, ROW)
        plays["at"], plays["listener"], plays["session"], plays["track"] = start, listener, self._session[seats], track
        plays["position"], plays["heard"], plays["reason_end"] = position, -1, -1
        plays["reason_start"] = self._reason[seats]
        plays["shuffle"], plays["offline"] = self._shuffle[seats], self._offline[seats]
        ends = plays[told].copy()
        ends["at"], ends["kind"] = end[told], np.where(skips, SKIP, PAUSE)[told]
        ends["position"], ends["heard"] = (position + heard)[told], heard[told]
        ends["reason_start"], ends["reason_end"] = -1, reason_end[told]
        rows = [plays, ends]
        for kind, probability in ((LIKE, behaviour.like), (SHARE, behaviour.share)):
            does = np.flatnonzero((random.random(n) < probability) & ~skips)
            act = plays[does].copy()
            into = (random.random(len(does)) * heard[does]).astype(np.int64)
            act["kind"], act["at"], act["position"], act["reason_start"] = kind, start[does] + into, 0, -1
            act["position"] = position[does] + into
            rows.append(act)

        pause_ms = np.where(skips, 300, np.where(pauses, 20_000, 900)) * random.uniform(0.5, 1.5, n)
        pause_ms = np.where(leaves, random.uniform(1_000, 30_000, n), pause_ms)
        self.next_ms[seats] = end + pause_ms.astype(np.int64)
        self.next_ms[seats] = np.where(self.next_ms[seats] >= self.until_ms[seats], _NEVER, self.next_ms[seats])
        self._resumes[seats] = np.where(resumed, track, -1)
        self._position[seats] = position + heard
        reason = np.where(skips, _FORWARD, np.where(pauses, _CLICKED, _DONE))
        self._reason[seats] = np.where(leaves, _CLICKED, np.where(resumed, _RESUMED, reason))
        self._sit_down(seats[leaves])
        return rows

    def _sit_down(self, seats: Ints) -> None:
        behaviour, n = self.scenario.behaviour, len(seats)
        self._listener[seats] = self._newcomers(seats)
        self._session[seats] = self._sessions + np.arange(n)
        self._sessions += n
        self._left[seats] = self.random.geometric(1 / behaviour.tracks_per_session, n)
        self._shuffle[seats] = self.random.random(n) < behaviour.shuffle
        self._offline[seats] = self.random.random(n) < behaviour.offline

    def _skip_factor(self, start: Ints, listener: Ints) -> Floats:
        factor = np.ones(len(start))
        for incident in self.incidents:
            if incident.kind == "skip_surge":
                inside = (start >= incident.start_ms) & (start < incident.end_ms)
                there = self.listeners.country[listener] == self.countries.index(incident.country)
                factor[inside & there] *= incident.magnitude
        return factor


def _extra_seats(incident: Planted, usual: float) -> int:
    match incident.kind:
        case "surge":
            return max(1, round(usual * (incident.magnitude - 1)))
        case "looping_bot":
            return 1
        case _:
            return 0


def _choose(weights: list[float], random: np.random.Generator, n: int) -> Ints:
    chosen: Ints = np.searchsorted(shares(np.array(weights)), random.random(n), side="right")
    return chosen
