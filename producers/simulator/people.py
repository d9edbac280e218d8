"""Who listens: a row per person, with a country, a device, a taste, habits, and a clock that may be wrong."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from producers.simulator.catalogue import Catalogue
from producers.simulator.scenario import Scenario
from producers.simulator.texts import chosen
from producers.simulator.world import ACT_ON_LOVED, ACT_ON_OTHER, HABITS, NEVER, PERSON, SKIP_OF_LOVED, SKIP_OF_OTHER

_OFFLINE_PEOPLE = 0.3
_CLOCK_WRONG_MS = 240_000.0
USUAL_LISTEN_MS = 119_000.0
"""Of a listen, for rates per ms of listening: 14.7 skips an hour where 48.6 % of the listens are skipped."""


def people(
    scenario: Scenario, catalogue: Catalogue, country: npt.NDArray[np.int64], random: np.random.Generator
) -> npt.NDArray[np.void]:
    """People of the given countries, who do not listen yet."""
    n = len(country)
    found = np.zeros(n, PERSON)
    cities = np.array([len(place.cities) for place in scenario.countries.values()])
    found["until"] = NEVER
    found["random"] = random.integers(0, 1 << 64, n, np.uint64)
    found["share"] = np.minimum(random.lognormal(-0.32, 0.8, n), 6)
    found["offline"] = (random.random(n) < _OFFLINE_PEOPLE) * (scenario.behaviour.offline / _OFFLINE_PEOPLE)
    wrong = random.random(n) < scenario.faults.clock_wrong
    found["skew"] = np.where(wrong, np.clip(random.laplace(0, _CLOCK_WRONG_MS, n), -2e9, 2e9), 0)
    found["country"] = country
    found["city"] = (np.cumsum(cities) - cities)[country] + (random.random(n) * cities[country]).astype(np.int64)
    found["device"] = chosen(list(scenario.devices.values()), random, n)
    elsewhere, usual = scenario.skip_elsewhere(), scenario.behaviour.skip or 1.0
    by_device = [scenario.behaviour.skip_on.get(device, elsewhere) / usual for device in scenario.devices]
    found["skips"] = random.uniform(0.6, 1.4, n) * np.array(by_device)[found["device"]]
    found["version"] = chosen(list(scenario.app_versions.values()), random, n)
    found["loves"] = np.searchsorted(catalogue.scene_shares, random.random((n, 3)), side="right")
    return found


def habits(scenario: Scenario, catalogue: Catalogue, loves: npt.NDArray[np.int16]) -> npt.NDArray[np.void]:
    """The scenario's behaviour as rates; shares are those of all listens, whatever part of them is of loved scenes."""
    behaviour = scenario.behaviour
    mass = np.diff(catalogue.scene_shares, prepend=0.0)
    first, second, third = loves.T
    known = mass[first] + mass[second] * (second != first) + mass[third] * ((third != first) & (third != second))
    others = behaviour.new_releases + (1 - behaviour.new_releases) * (1 - behaviour.favourite_genre)
    loved = 1 - others + others * float(known.mean())
    skip = behaviour.skip / (SKIP_OF_LOVED * loved + SKIP_OF_OTHER * (1 - loved))
    act = 1 / (ACT_ON_LOVED * loved + ACT_ON_OTHER * (1 - loved)) / USUAL_LISTEN_MS
    found = np.zeros(1, HABITS)
    found["tracks"], found["skip"], found["resume"] = behaviour.tracks_per_session, skip, behaviour.resume
    found["session_ms"] = behaviour.tracks_per_session * USUAL_LISTEN_MS
    found["shuffle"], found["reported"] = behaviour.shuffle, behaviour.completion_reported
    found["focus"], found["offline_ms"] = behaviour.favourite_genre, behaviour.offline_minutes * 60_000
    found["pause"], found["seek"] = behaviour.pause / USUAL_LISTEN_MS, behaviour.seek / USUAL_LISTEN_MS
    found["like"], found["share"] = behaviour.like * act, behaviour.share * act
    found["private"] = behaviour.incognito
    return found
