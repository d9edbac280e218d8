"""The population: as many people as the asked rate needs, living through time, and the guests of what is planted."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from producers.simulator import staged
from producers.simulator.catalogue import Catalogue, rise_and_decay
from producers.simulator.daytime import DAY_MS, Curves, curves
from producers.simulator.incidents import Planted
from producers.simulator.listening import advance, first_sessions
from producers.simulator.people import habits, people
from producers.simulator.rows import ROW, Rows, joined
from producers.simulator.scenario import Scenario
from producers.simulator.texts import chosen
from producers.simulator.world import NEVER, World

LISTENING_MAX = 0.2
"""Share of the population that listens at a usual time, at most; a higher rate needs more people than the scenario has.
"""

HORIZON_DAYS = 400
_ROWS = 1 << 16
_TRIAL_PEOPLE, _TRIAL_MS, _TRIAL_FROM_MS = 1_000, 1_800_000, 600_000
_TRACK_MS = 150_000
_HIT_WIDTH = 4.0


class Crowd:
    """People from `opens_ms` on, who send `rate` events per second on an average of the span."""

    def __init__(
        self,
        scenario: Scenario,
        catalogue: Catalogue,
        rate: float,
        opens_ms: int,
        span_ms: int,
        random: np.random.Generator,
        incidents: list[Planted],
    ) -> None:
        self.scenario, self.catalogue, self.incidents, self.random = scenario, catalogue, incidents, random
        self.countries, self.versions = list(scenario.countries), list(scenario.app_versions)
        weights = [place.weight for place in scenario.countries.values()]
        zones = [place.zone for place in scenario.countries.values()]
        shares = np.array(weights) / sum(weights)
        days = min(HORIZON_DAYS, max(9, -(-span_ms // DAY_MS) + 9))
        self.curves: Curves = curves(zones, shares.tolist(), opens_ms, days, span_ms)

        sample = people(scenario, catalogue, chosen(weights, random, 5_000), random)
        self.world = self._world(habits(scenario, catalogue, sample["loves"]))
        per_person_s, session_ms = _tried(self.world, sample[:_TRIAL_PEOPLE].copy())
        self.world.habits["session_ms"] = session_ms
        self.listening = rate / per_person_s
        count = max(scenario.listeners, round(self.listening / LISTENING_MAX))
        guests = [
            one.guests_wanted(self.listening * shares[self.countries.index(one.country)] if one.country else 0)
            for one in incidents
        ]
        country = chosen(weights, random, count + sum(guests))
        first = count
        for one, wanted in zip(incidents, guests, strict=True):
            one.guests = slice(first, first + wanted)
            country[one.guests] = self.countries.index(one.country) if one.country else 0
            first += wanted
        self.people = people(scenario, catalogue, country, random)
        self.people["share"][:count] *= self.listening / float(self.people["share"][:count].sum())
        self.people["share"][count:] = 0
        self.people["offline"][count:] = 0
        self.next_ms = np.full(len(country), NEVER, np.int64)
        self._settle(count, opens_ms)
        self._out = np.zeros(_ROWS, ROW)

    def _world(self, behaviour: npt.NDArray[np.void]) -> World:
        catalogue = self.catalogue
        return World(
            behaviour,
            catalogue.duration_ms,
            catalogue.scene,
            catalogue.by_scene,
            catalogue.running,
            catalogue.guide,
            catalogue.scene_shares,
            catalogue.fresh,
            np.zeros(len(catalogue.fresh)),
            np.zeros(len(catalogue.scene), np.bool_),
            self.curves.by_country,
            self.curves.start_ms,
            self.curves.by_country.max(axis=1),
            np.zeros((0, 4)),
        )

    def _settle(self, count: int, opens_ms: int) -> None:
        """Who listens when the doors open is in the middle of a track; sessions have no memory, so any will do."""
        now = (opens_ms - self.curves.start_ms) // 900_000
        usual = self.curves.by_country[self.people["country"][:count], now]
        listens = self.random.random(count) < np.minimum(self.people["share"][:count] * usual, 0.9)
        soon = opens_ms + self.random.integers(0, _TRACK_MS, count)
        self.next_ms[:count] = np.where(listens, soon, NEVER)
        first_sessions(self.people, self.next_ms, self.world, opens_ms)

    def begin(self, one: Planted) -> list[Rows]:
        """Lets the guests of a surge in; gives everything that bots and false accounts do."""
        if one.kind in ("surge", "holiday"):
            count = one.guests.stop - one.guests.start
            self.next_ms[one.guests] = one.start_ms + (self.random.random(count) * 60_000).astype(np.int64)
            self.people["until"][one.guests] = one.end_ms
            self.people["left"][one.guests] = 0
        return staged.rows(one, self.people, self.catalogue, self.random)

    def advance(self, begin_ms: int, end_ms: int) -> Rows:
        """Every event of the listens that begin before `end_ms`, without order."""
        world = self._now(begin_ms, end_ms)
        found: list[Rows] = []
        first = 0
        while first < len(self.people):
            count, first = advance(self.people, self.next_ms, world, self._out, first, end_ms)
            found.append(joined([self._out[:count]]))
        return joined(found)

    def _now(self, begin_ms: int, end_ms: int) -> World:
        """The world with the releases, hits, takedowns and skip surges of this time."""
        behaviour, catalogue = self.scenario.behaviour, self.catalogue
        fresh, shares = catalogue.fresh, catalogue.fresh_running(begin_ms, behaviour.new_releases)
        gone, surges = self.world.gone, []
        for one in self.incidents:
            if one.start_ms >= end_ms or begin_ms >= one.end_ms:
                continue
            match one.kind:
                case "new_release" | "viral_song":
                    x = np.array([(begin_ms - one.start_ms) / (one.end_ms - one.start_ms) * _HIT_WIDTH])
                    total = (shares[-1] if len(shares) else 0.0) + one.magnitude * float(rise_and_decay(x)[0])
                    fresh, shares = np.append(fresh, np.int32(one.tracks[0])), np.append(shares, min(total, 1.0))
                case "takedown":
                    gone = gone.copy()
                    gone[one.tracks] = True
                case "skip_surge":
                    country = self.countries.index(str(one.country))
                    surges.append([float(one.start_ms), float(one.end_ms), float(country), one.magnitude])
        return self.world._replace(fresh=fresh, fresh_running=shares, gone=gone, surges=np.array(surges).reshape(-1, 4))


def _tried(world: World, sample: npt.NDArray[np.void]) -> tuple[float, float]:
    """(events per second of a person who listens, mean session in ms), tried out with some who always listen."""
    sample["share"], sample["offline"] = 0, 0
    next_ms = np.arange(len(sample), dtype=np.int64) * 100
    out = np.zeros(_ROWS, ROW)
    first = told = 0
    while first < len(sample):
        count, first = advance(sample, next_ms, world, out, first, _TRIAL_MS)
        at = out["at"][:count]
        told += int(((at >= _TRIAL_FROM_MS) & (at < _TRIAL_MS)).sum())
    ended = int(sample["sessions"].sum()) - len(sample)
    return told / len(sample) / ((_TRIAL_MS - _TRIAL_FROM_MS) / 1000), _TRIAL_MS * len(sample) / max(ended, 1)
