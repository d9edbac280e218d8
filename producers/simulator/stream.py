"""A plan as a stream of events in the order in which they reach the door, repeatable byte for byte."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import msgspec
import numpy as np

from producers.simulator.catalogue import Catalogue
from producers.simulator.crowd import Crowd
from producers.simulator.faults import FAULTS
from producers.simulator.incidents import Planted, label, plant
from producers.simulator.journey import Journey
from producers.simulator.rows import ROW, Rows, joined, taken
from producers.simulator.scenario import Scenario
from producers.simulator.staged import tracks_of
from producers.simulator.telling import Teller

Item = dict[str, Any] | bytes
"""A client event, or bytes that are none."""

LIVE_SPAN_MS = 1_200_000
"""What is planted in a simulation without end comes again after this time."""

_WARM_UP_MS = (120_000, 600_000)
_WARM_UP_EVENTS = 1_000_000
_SLICE_EVENTS = 40_000
_SLICE_MS = (100, 600_000)
_PLANTED_SLICE_MS = 10_000
"""Releases, hits and takedowns begin with a slice."""

_ACCOUNTS_NAMED = 100


@dataclass(frozen=True)
class Plan:
    """Everything that decides what is told. `rate` is in events per second of event time; `events` None: no end."""

    name: str
    scenario: Scenario
    seed: int
    rate: float
    start_ms: int
    events: int | None

    @property
    def span_ms(self) -> int:
        """Event time over which the rate is the mean, and over which incidents are spread."""
        return LIVE_SPAN_MS if self.events is None else round(self.events / self.rate * 1000)

    @cached_property
    def run(self) -> str:
        """Names this run: the first characters of every event_id. Another plan has another name."""
        told = [self.name, self.scenario.model_dump(), self.seed, self.rate, self.start_ms, self.events]
        return hashlib.sha256(msgspec.json.encode(told)).hexdigest()[:16]


class Stream:
    """What a plan tells. The same plan tells the same bytes."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._random = np.random.default_rng(plan.seed)
        self.catalogue = Catalogue(plan.scenario, plan.start_ms, self._random)
        self.incidents = self._planted(plan.start_ms)
        self._begun = plan.start_ms
        self._opens_ms = plan.start_ms - int(np.clip(_WARM_UP_EVENTS / plan.rate * 1000, *_WARM_UP_MS))
        self.crowd = Crowd(
            plan.scenario, self.catalogue, plan.rate, self._opens_ms, plan.span_ms, self._random, self.incidents
        )
        self._journey = Journey(
            plan.scenario.faults, self.crowd.people, self.crowd.countries, self.crowd.versions, self._random
        )
        self.teller = Teller(plan.scenario, self.catalogue, self.crowd.people, plan.run)

    def batches(self, after_ms: int = 0) -> Iterator[Rows]:
        """Rows in the order of their arrival; ends after the planned number of events.

        Events that arrived until `after_ms` happen, but are not told.
        """
        left = self.plan.events
        for rows in filter(len, (taken(rows, rows["arrival"] > after_ms) for rows in self._slices())):
            yield rows if left is None else rows[:left]
            if left is not None:
                left -= len(rows)
                if left <= 0:
                    return

    def items(self, rows: Rows) -> list[Item]:
        """The rows as clients tell them; those with a fault are broken."""
        events = self.teller.client_events(rows, map(self.user_id, rows["listener"].tolist()))
        faults = rows["fault"].tolist()
        return [FAULTS[fault - 1](event) if fault else event for event, fault in zip(events, faults, strict=True)]

    def labels(self) -> list[dict[str, Any]]:
        """What has been planted so far."""
        return [label(one, self._dimension(one)) for one in self.incidents]

    def user_id(self, listener: int) -> str:
        """A listener as the client names it."""
        return f"{self.plan.name}-{self.plan.seed}-{listener}"

    def _dimension(self, one: Planted) -> dict[str, Any]:
        told: dict[str, Any] = {"platform": self.plan.scenario.platform}
        if one.kind == "looping_bot":
            told["user_id"] = self.user_id(one.guests.start)
        elif one.country is not None:
            told["country"] = one.country
        if one.app_version is not None:
            told["app_version"] = one.app_version
        if one.tracks:
            told["track_ids"] = self.catalogue.track_ids.take(one.tracks).to_pylist()
            told["artist_name"] = self.catalogue.artists[int(self.catalogue.artist[one.tracks[0]])].as_py()
        if one.kind in ("streaming_farm", "like_bombing"):
            told["accounts"] = one.guests.stop - one.guests.start
            some = range(one.guests.start, min(one.guests.stop, one.guests.start + _ACCOUNTS_NAMED))
            told["user_ids"] = [self.user_id(account) for account in some]
        return told

    def _planted(self, start_ms: int) -> list[Planted]:
        found = plant(self.plan.scenario, start_ms, self.plan.span_ms)
        for one in found:
            one.tracks = tracks_of(one, self.catalogue, self._random)
        return found

    def _slices(self) -> Iterator[Rows]:
        start_ms = self.plan.start_ms
        slice_ms = int(np.clip(_SLICE_EVENTS / self.plan.rate * 1000, *_SLICE_MS))
        slice_ms = min(slice_ms, _PLANTED_SLICE_MS) if self.incidents else slice_ms
        waiting = np.zeros(0, ROW)
        end_ms = self._opens_ms
        while True:
            begin_ms, end_ms = end_ms, end_ms + slice_ms
            told = [waiting[:0]]
            for one in self._beginning(begin_ms, end_ms):
                told += self.crowd.begin(one)
            told.append(self.crowd.advance(begin_ms, end_ms))
            waiting = joined([waiting, self._journey.arrived(joined(told), self.crowd.incidents)])
            arrival = waiting["arrival"]
            ready = np.flatnonzero((arrival < end_ms) & (arrival >= start_ms))
            yield taken(waiting, ready[np.argsort(arrival[ready], kind="stable")])
            waiting = taken(waiting, arrival >= end_ms)

    def _beginning(self, begin_ms: int, end_ms: int) -> list[Planted]:
        """What begins in a slice; without an end, the next round is planted when one is over."""
        if self.plan.events is None and end_ms >= self._begun + LIVE_SPAN_MS:
            self._begun += LIVE_SPAN_MS
            again = self._planted(self._begun)
            for one, before in zip(again, self.crowd.incidents, strict=True):
                one.guests = before.guests
            self.crowd.incidents = again
            self.incidents = [*self.incidents, *again]
        return [one for one in self.crowd.incidents if begin_ms <= one.start_ms < end_ms]


def encode(item: Item) -> bytes:
    """An item as a line of JSON, or the bytes that it is."""
    return item if isinstance(item, bytes) else msgspec.json.encode(item)
