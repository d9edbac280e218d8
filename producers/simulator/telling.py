"""What the platform's app tells of each row, as an object: the plain way, for whatever is not sent in bulk."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from producers.collector.clock import TOLERANCE_MS
from producers.event import EVENT_TYPES
from producers.simulator.catalogue import Catalogue
from producers.simulator.rows import ROW, Rows
from producers.simulator.scenario import Scenario
from producers.simulator.texts import Bytes, behind, hexadecimal
from producers.simulator.world import PLAY, REASONS_END, REASONS_START

NUMBER_DIGITS, SESSION_DIGITS = 12, 16
"""Hexadecimal digits at the end of an event_id and of a session_id."""


class Teller:
    """Turns rows into client events; `run` begins every event_id and session_id.

    `timestamp` is as the collector repairs it, for which the simulator stands too.
    """

    def __init__(self, scenario: Scenario, catalogue: Catalogue, people: npt.NDArray[np.void], run: str) -> None:
        self._scenario, self._catalogue, self._people, self._run = scenario, catalogue, people, run
        self._devices, self._countries = list(scenario.devices), list(scenario.countries)
        self._versions = list(scenario.app_versions)
        self.cities = [city for place in scenario.countries.values() for city in place.cities]

    def event_ids(self, rows: Rows) -> Bytes:
        """The characters of each; the same whenever the plan is told."""
        return behind(f"{self._run}-", hexadecimal(rows["number"], NUMBER_DIGITS))

    def client_events(self, rows: Rows, users: Iterable[str]) -> list[dict[str, Any]]:
        """One event each, with its user, in their order, and without what is not told."""
        names = ROW.names or ()
        events = (
            self._event(dict(zip(names, row, strict=True)), user)
            for row, user in zip(rows.tolist(), users, strict=True)
        )
        return [{name: value for name, value in event.items() if value is not None} for event in events]

    def _event(self, row: dict[str, Any], user: str) -> dict[str, Any]:
        client, catalogue, person = self._scenario.client, self._catalogue, self._people[row["listener"]]
        track, skew, is_private, is_play = row["track"], row["skew"], row["private"], row["kind"] == PLAY
        session = f"{self._run}-s{row['listener'] << 32 | row['session']:0{SESSION_DIGITS}x}"
        start, end = row["reason_start"], row["reason_end"]
        return {
            "event_id": f"{self._run}-{row['number']:0{NUMBER_DIGITS}x}",
            "event_type": EVENT_TYPES[row["kind"]],
            "track_id": catalogue.track_ids[track].as_py(),
            "timestamp": row["at"] + (skew if abs(skew) <= TOLERANCE_MS else 0),
            "platform": self._scenario.platform,
            "session_id": None if is_private else session,
            "incognito": is_private or None,
            "device": self._devices[person["device"]],
            "country": self._countries[person["country"]],
            "app_version": self._versions[person["version"]],
            "position_ms": row["position"],
            "sent_at": row["arrival"] + skew,
            "ms_played": row["heard"] if row["heard"] >= 0 else None,
            "offline": row["offline"] or None,
            "track_name": catalogue.titles[catalogue.title[track]].as_py() if is_play else None,
            "artist_name": catalogue.artists[catalogue.artist[track]].as_py() if is_play else None,
            "duration_ms": int(catalogue.duration_ms[track]) if is_play else None,
            "user_id": user,
            "album_name": catalogue.titles[catalogue.album_title[track]].as_py() if client.album and is_play else None,
            "isrc": catalogue.isrcs[track].as_py() if client.isrc and is_play else None,
            "location": self.cities[person["city"]] if client.location else None,
            "reason_start": REASONS_START[start] if client.reasons and start >= 0 else None,
            "reason_end": REASONS_END[end] if client.reasons and end >= 0 else None,
            "shuffle": row["shuffle"] if client.shuffle else None,
        }
