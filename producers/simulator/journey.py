"""What happens to events between a listener's device and the door: delays, retries, losses, wrong clocks, faults."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from producers.simulator.faults import FAULTS
from producers.simulator.incidents import Planted
from producers.simulator.rows import Rows, joined, taken
from producers.simulator.scenario import Faults
from producers.simulator.world import NONE, PAUSE, PLAY, SHARE

DISORDER_MS = (500, 6_000)
LATE_MS = (80_000, 300_000)
_HOUR_MS = 3_600_000
_SHARED_AFTER_MS = 20_000


class Journey:
    """Where listeners live and which release they have decides what befalls their events."""

    def __init__(
        self,
        faults: Faults,
        people: npt.NDArray[np.void],
        countries: Sequence[str],
        versions: Sequence[str],
        random: np.random.Generator,
    ) -> None:
        self._faults, self._people, self._random = faults, people, random
        self._countries, self._versions = list(countries), list(versions)
        self._number = 0

    def arrived(self, rows: Rows, planted: Sequence[Planted]) -> Rows:
        """The rows that are sent, numbered; some come later, twice or broken. What is planted does its part."""
        for one in planted:
            rows = self._befalls(rows, one)
        random, faults = self._random, self._faults
        n = len(rows)
        rows["number"] = self._number + np.arange(n)
        self._number += n
        disordered, late = random.random(n) < faults.disordered, random.random(n) < faults.late
        rows["arrival"] += np.where(disordered, random.integers(*DISORDER_MS, n), 0)
        rows["arrival"] += np.where(late, random.integers(*LATE_MS, n), 0)
        rows["fault"] = np.where(random.random(n) < faults.broken, random.integers(1, len(FAULTS) + 1, n), 0)
        again = random.random(n) < faults.duplicate
        for one in planted:
            if one.kind == "duplicated":
                again |= self._touched(rows, one) & (random.random(n) < one.magnitude)
        twice = taken(rows, again)
        twice["arrival"] += random.integers(*DISORDER_MS, len(twice))
        return joined([rows, twice])

    def _befalls(self, rows: Rows, one: Planted) -> Rows:
        match one.kind:
            case "drop" | "lost_pauses":
                lost = self._touched(rows, one) & (self._random.random(len(rows)) < one.magnitude)
                return taken(rows, ~(lost & (rows["kind"] == PAUSE) if one.kind == "lost_pauses" else lost))
            case "clock_broken":
                rows["skew"][self._touched(rows, one)] = round(one.magnitude * _HOUR_MS)
            case "share_storm":
                plays = (rows["kind"] == PLAY) & (rows["track"] == one.tracks[0]) & (rows["position"] == 0)
                by_chance = self._random.random(len(rows)) < one.magnitude
                shares = taken(rows, self._touched(rows, one) & plays & by_chance)
                shares["kind"], shares["position"], shares["reason_start"] = SHARE, _SHARED_AFTER_MS, NONE
                shares["at"] += _SHARED_AFTER_MS
                shares["arrival"] += _SHARED_AFTER_MS
                return joined([rows, shares])
        return rows

    def _touched(self, rows: Rows, one: Planted) -> npt.NDArray[np.bool_]:
        """Events within its time and its country or release."""
        found: npt.NDArray[np.bool_] = (rows["at"] >= one.start_ms) & (rows["at"] < one.end_ms)
        if one.country is not None:
            found &= self._people["country"][rows["listener"]] == self._countries.index(one.country)
        if one.app_version is not None:
            found &= self._people["version"][rows["listener"]] == self._versions.index(one.app_version)
        return found
