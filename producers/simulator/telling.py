"""What the platform's app tells of each row: columns whose texts are codes of dictionaries, no Python object each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from producers.collector.clock import TOLERANCE_MS
from producers.event import EVENT_TYPES
from producers.simulator.catalogue import Catalogue
from producers.simulator.rows import Rows
from producers.simulator.scenario import Scenario
from producers.simulator.texts import behind, hexadecimal
from producers.simulator.world import PLAY, REASONS_END, REASONS_START

ONLY_THE_DOOR = ("device_timestamp",)
"""Columns that no client tells."""


class Teller:
    """Turns rows into columns of listening_event.avsc; `run` begins every event_id and session_id."""

    def __init__(self, scenario: Scenario, catalogue: Catalogue, people: npt.NDArray[np.void], run: str) -> None:
        self._client, self._catalogue, self._run = scenario.client, catalogue, run
        fields = ("device", "country", "version", "city")
        self._of_person = {name: np.ascontiguousarray(people[name], np.int32) for name in fields}
        places = scenario.countries
        self._platform = _texts([scenario.platform])
        self._countries = _texts(places)
        self.cities = [city for place in places.values() for city in place.cities]
        self._devices, self._versions = _texts(scenario.devices), _texts(scenario.app_versions)
        self._types, self._starts, self._ends = _texts(EVENT_TYPES), _texts(REASONS_START), _texts(REASONS_END)

    def batch(self, rows: Rows, cities: Sequence[str | None] | None = None, **more: pa.Array) -> pa.RecordBatch:
        """One row each, in their order. `more` are columns to add: the user, and what the door adds.

        `cities` has what is told instead of each of `self.cities`.

        `timestamp` is as the collector repairs it, for which the simulator stands too: a device whose clock is clearly
        wrong has its own time in `device_timestamp`, and in `sent_at`.
        """
        client, catalogue, n = self._client, self._catalogue, len(rows)
        listener, track = np.ascontiguousarray(rows["listener"]), np.ascontiguousarray(rows["track"])
        person = {name: column[listener] for name, column in self._of_person.items()}
        plays, skew = rows["kind"] == PLAY, rows["skew"].astype(np.int64)
        session = listener.astype(np.int64) << 32 | rows["session"].astype(np.int64)
        is_repaired = np.abs(skew) > TOLERANCE_MS
        open_ = pa.array(~rows["private"])
        columns: dict[str, pa.Array] = {
            "event_id": self.event_ids(rows),
            "event_type": _coded(rows["kind"], self._types),
            "track_id": _coded(track, catalogue.track_ids),
            "timestamp": pa.array(rows["at"] + np.where(is_repaired, 0, skew)),
            "platform": _coded(np.zeros(n, np.int32), self._platform),
            "session_id": pc.if_else(open_, behind(f"{self._run}-s", hexadecimal(session, 16)), None),
            "incognito": pa.array(rows["private"], mask=~rows["private"]),
            "device": _coded(person["device"], self._devices),
            "country": _coded(person["country"], self._countries),
            "app_version": _coded(person["version"], self._versions),
            "position_ms": pa.array(rows["position"]),
            "sent_at": pa.array(rows["arrival"] + skew),
            "ms_played": pa.array(rows["heard"], mask=rows["heard"] < 0),
            "offline": pa.array(rows["offline"], mask=~rows["offline"]),
            "device_timestamp": pa.array(rows["at"] + skew, mask=~is_repaired),
            "track_name": _coded(catalogue.title[track], catalogue.titles, plays),
            "artist_name": _coded(catalogue.artist[track], catalogue.artists, plays),
            "duration_ms": pa.array(catalogue.duration_ms[track], mask=~plays),
            **more,
        }
        if client.album:
            columns["album_name"] = _coded(catalogue.album_title[track], catalogue.titles, plays)
        if client.isrc:
            columns["isrc"] = _coded(track, catalogue.isrcs, plays)
        if client.location:
            told = self.cities if cities is None else cities
            known = np.array([city is not None for city in told])
            columns["location"] = _coded(person["city"], _texts(city or "" for city in told), known[person["city"]])
        if client.reasons:
            columns["reason_start"] = _coded(rows["reason_start"], self._starts, rows["reason_start"] >= 0)
            columns["reason_end"] = _coded(rows["reason_end"], self._ends, rows["reason_end"] >= 0)
        if client.shuffle:
            columns["shuffle"] = pa.array(rows["shuffle"])
        return pa.record_batch(columns)

    def event_ids(self, rows: Rows) -> pa.LargeStringArray:
        """The same whenever the plan is told."""
        return behind(f"{self._run}-", hexadecimal(rows["number"], 12))

    def client_events(self, rows: Rows, users: Iterable[str]) -> list[dict[str, Any]]:
        """The same as objects, each with its user, and without what is not told."""
        told = self.batch(rows, user_id=pa.array(list(users), pa.large_string())).to_pylist()
        return [{k: v for k, v in event.items() if v is not None and k not in ONLY_THE_DOOR} for event in told]


def _texts(values: Iterable[str]) -> pa.Array:
    return pa.array(list(values), pa.large_string())


def _coded(codes: npt.NDArray[Any], texts: pa.Array, told: npt.NDArray[np.bool_] | None = None) -> pa.DictionaryArray:
    indices = pa.array(np.ascontiguousarray(codes, np.int32), mask=None if told is None else ~told)
    return pa.DictionaryArray.from_arrays(indices, texts, safe=False)
