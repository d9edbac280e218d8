"""The events of a crowd in the order in which they reach the door, with what goes wrong on the way."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import msgspec
import numpy as np

from producers.event import EVENT_TYPES
from producers.simulator.catalogue import Catalogue
from producers.simulator.crowd import REASONS_END, REASONS_START, ROW, Crowd, Rows
from producers.simulator.faults import FAULTS
from producers.simulator.incidents import Planted, label, plant
from producers.simulator.scenario import Scenario

Item = dict[str, Any] | bytes
"""A client event, or bytes that are none."""

LIVE_SPAN_MS = 1_200_000
"""Incidents of a simulation without end come again after this time."""

_WARM_UP_MS = (120_000, 600_000)
_WARM_UP_EVENTS = 1_000_000
_SLICE_EVENTS = 4_000
_DISORDER_MS = (500, 6_000)
_LATE_MS = (80_000, 300_000)


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
        """Event time that the incidents are spread over."""
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
        random = np.random.default_rng(plan.seed)
        self.catalogue = Catalogue(plan.scenario, random)
        self.incidents = plant(plan.scenario, plan.start_ms, plan.span_ms)
        self._opens_ms = plan.start_ms - int(np.clip(_WARM_UP_EVENTS / plan.rate * 1000, *_WARM_UP_MS))
        seats = max(1, round(plan.rate / self._events_per_seat_s(random)))
        self.crowd = Crowd(plan.scenario, self.catalogue, seats, self._opens_ms, random, self.incidents)
        self._random, self._number, self._begun = random, 0, plan.start_ms
        people = self.crowd.listeners
        countries = list(plan.scenario.countries.items())
        self._countries = [countries[i][0] for i in people.country.tolist()]
        self._cities = [
            countries[i][1].cities[c] for i, c in zip(people.country.tolist(), people.city.tolist(), strict=True)
        ]
        self._users = [self.user_id(i) for i in range(len(self._countries))]
        self._devices = _named(list(plan.scenario.devices), people.device.tolist())
        self._versions = _named(list(plan.scenario.app_versions), people.app_version.tolist())

    def _events_per_seat_s(self, random: np.random.Generator) -> float:
        """Tried out with a small crowd for 20 minutes: depends on everything that the scenario says."""
        crowd = Crowd(self.plan.scenario, self.catalogue, 1_000, 0, random, [])
        at = np.concatenate([rows["at"] for rows in crowd.advance(1_800_000)])
        return int(((at >= 600_000) & (at < 1_800_000)).sum()) / 1_000 / 1_200

    def batches(self, after_ms: int = 0) -> Iterator[tuple[list[int], list[Item]]]:
        """(arrival times in ms, events), in order; ends after the planned number of events.

        Events that arrived until `after_ms` happen, but are not told.
        """
        left = self.plan.events
        for rows in filter(len, (rows[rows["arrival"] > after_ms] for rows in self._slices())):
            told = rows if left is None else rows[:left]
            yield told["arrival"].tolist(), self._tell(told)
            if left is not None:
                left -= len(told)
                if left <= 0:
                    return

    def labels(self) -> list[dict[str, Any]]:
        """The incidents planted so far."""
        return [label(incident, self._dimension(incident)) for incident in self.incidents]

    def user_id(self, listener: int) -> str:
        """A listener as the client names it."""
        return f"{self.plan.name}-{self.plan.seed}-{listener}"

    def _dimension(self, incident: Planted) -> dict[str, str]:
        if incident.kind == "looping_bot":
            return {"platform": self.plan.scenario.platform, "user_id": self.user_id(incident.seats.start)}
        return {"platform": self.plan.scenario.platform, "country": incident.country}

    def _slices(self) -> Iterator[Rows]:
        start_ms = self.plan.start_ms
        slice_ms = int(np.clip(_SLICE_EVENTS / self.plan.rate * 1000, 100, 10_000))
        waiting = np.zeros(0, ROW)
        end_ms = self._opens_ms
        while True:
            begin_ms, end_ms = end_ms, end_ms + slice_ms
            told: list[Rows] = []
            for incident in self._beginning(begin_ms, end_ms):
                told += self.crowd.begin(incident)
            told += self.crowd.advance(end_ms)
            waiting = np.concatenate([waiting, self._on_the_way(np.concatenate([np.zeros(0, ROW), *told]))])
            arrived = waiting["arrival"] < end_ms
            ready, waiting = waiting[arrived], waiting[~arrived]
            ready = ready[ready["arrival"] >= start_ms]
            yield ready[np.argsort(ready["arrival"], kind="stable")]

    def _beginning(self, begin_ms: int, end_ms: int) -> list[Planted]:
        """Incidents that begin in a slice; without an end, the next round is planted when one is over."""
        if self.plan.events is None and end_ms >= self._begun + LIVE_SPAN_MS:
            self._begun += LIVE_SPAN_MS
            again = plant(self.plan.scenario, self._begun, LIVE_SPAN_MS)
            for incident, before in zip(again, self.crowd.incidents, strict=True):
                incident.seats = before.seats
            self.crowd.incidents = again
            self.incidents = [*self.incidents, *again]
        return [i for i in self.crowd.incidents if begin_ms <= i.start_ms < end_ms]

    def _on_the_way(self, rows: Rows) -> Rows:
        """Numbers new events, loses those of a drop, delays some, doubles some, breaks some."""
        random, faults = self._random, self.plan.scenario.faults
        lost = np.zeros(len(rows), np.bool_)
        country = self.crowd.listeners.country[rows["listener"]]
        for incident in self.crowd.incidents:
            if incident.kind == "drop":
                inside = (rows["at"] >= incident.start_ms) & (rows["at"] < incident.end_ms)
                there = country == self.crowd.countries.index(incident.country)
                lost |= inside & there & (random.random(len(rows)) < incident.magnitude)
        rows = rows[~lost]
        n = len(rows)
        rows["number"] = self._number + np.arange(n)
        self._number += n
        disordered, late = random.random(n) < faults.disordered, random.random(n) < faults.late
        rows["arrival"] = rows["at"]
        rows["arrival"] += np.where(disordered, random.integers(*_DISORDER_MS, n), 0)
        rows["arrival"] += np.where(late, random.integers(*_LATE_MS, n), 0)
        rows["fault"] = np.where(random.random(n) < faults.broken, random.integers(1, len(FAULTS) + 1, n), 0)
        again = rows[random.random(n) < faults.duplicate].copy()
        again["arrival"] += random.integers(*_DISORDER_MS, len(again))
        return np.concatenate([rows, again])

    def _tell(self, rows: Rows) -> list[Item]:
        client, platform, run = self.plan.scenario.client, self.plan.scenario.platform, self.plan.run
        track_ids, context = self.catalogue.track_ids, self.catalogue.context
        tells_location, tells_reasons, tells_shuffle = client.location, client.reasons, client.shuffle
        users, devices, countries = self._users, self._devices, self._countries
        items: list[Item] = []
        for row in rows.tolist():
            (
                arrival,
                at,
                number,
                listener,
                session,
                track,
                kind,
                position,
                heard,
                start,
                end,
                shuffle,
                offline,
                fault,
            ) = row
            event: dict[str, Any] = {
                "event_id": f"{run}-{number}",
                "event_type": EVENT_TYPES[kind],
                "user_id": users[listener],
                "track_id": track_ids[track],
                "timestamp": at,
                "platform": platform,
                "session_id": f"{run}-s{session}",
                "device": devices[listener],
                "country": countries[listener],
                "app_version": self._versions[listener],
                "position_ms": position,
                "sent_at": arrival,
            }
            if tells_location:
                event["location"] = self._cities[listener]
            if heard >= 0:
                event["ms_played"] = heard
            if tells_reasons:
                if start >= 0:
                    event["reason_start"] = REASONS_START[start]
                if end >= 0:
                    event["reason_end"] = REASONS_END[end]
            if tells_shuffle:
                event["shuffle"] = shuffle
            if offline:
                event["offline"] = True
            if kind == 0:
                event.update(context[track])
            items.append(FAULTS[fault - 1](event) if fault else event)
        return items


def encode(item: Item) -> bytes:
    """An item as a line of JSON, or the bytes that it is."""
    return item if isinstance(item, bytes) else msgspec.json.encode(item)


def _named(names: list[str], indices: list[int]) -> list[str]:
    return [names[i] for i in indices]
