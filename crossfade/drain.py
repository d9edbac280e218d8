"""Decides when everything that was accepted is in the warehouse, or that it never will be. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

KEYS = ("accepted", "loaded", "dead_lettered", "deduplicated", "in_flight")

SETTLE_S = 1.5
"""Figures are up to 1 s old: all lags have to be 0 for longer than that, and twice."""

IMBALANCE_S = 20.0
STUCK_S = 120.0


class Verdict(Enum):
    """What the figures say."""

    WAITING = "waiting"
    DRAINED = "drained"
    IMBALANCED = "imbalanced"
    STUCK = "stuck"


def balances(ledger: Mapping[str, int]) -> bool:
    """Whether nothing is missing and nothing is there twice."""
    settled = ledger["loaded"] + ledger["dead_lettered"] + ledger["deduplicated"]
    return ledger["accepted"] == settled and ledger["in_flight"] == 0


@dataclass
class Drain:
    """Watches lags and ledger. Times are monotonic seconds.

    Drained: the source has finished, and for SETTLE_S every lag was 0 and the ledger balanced. Imbalanced: every lag
    is 0 for IMBALANCE_S, yet the ledger does not balance. Stuck: for STUCK_S no figure was better than ever before,
    whatever restarts in the meantime.
    """

    began: float
    _idle_since: float | None = None
    _idle_readings: int = 0
    _best: dict[str, int] = field(default_factory=dict)
    _progress_at: float | None = None

    def observe(
        self,
        now: float,
        source_finished: bool,
        lags: Mapping[str, int | None],
        ledger: Mapping[str, int] | None,
        sent: int,
    ) -> Verdict:
        """Takes one round of figures; `sent` is how many events the source reports."""
        self._note_progress(now, lags, ledger, sent)
        if not source_finished or ledger is None or any(lag != 0 for lag in lags.values()):
            self._idle_since, self._idle_readings = None, 0
        else:
            self._idle_since = now if self._idle_since is None else self._idle_since
            self._idle_readings += 1
            if now - self._idle_since >= SETTLE_S and self._idle_readings > 1:
                if balances(ledger):
                    return Verdict.DRAINED
                if now - self._idle_since >= IMBALANCE_S:
                    return Verdict.IMBALANCED
        return Verdict.STUCK if now - (self._progress_at or self.began) >= STUCK_S else Verdict.WAITING

    def _note_progress(
        self, now: float, lags: Mapping[str, int | None], ledger: Mapping[str, int] | None, sent: int
    ) -> None:
        figures = {"sent": sent, **(ledger or {})}
        figures.pop("in_flight", None)
        if any(value > self._best.get(name, 0) for name, value in figures.items()):
            # new work raises the lags, so that they count from here again
            self._best = {name: max(value, self._best.get(name, 0)) for name, value in figures.items()}
            self._progress_at = now
        for stage, lag in lags.items():
            key = f"lag of {stage}"
            if lag is not None and (key not in self._best or lag < self._best[key]):
                self._best[key] = lag
                self._progress_at = now


def what_is_stuck(source_finished: bool, lags: Mapping[str, int | None], ledger: Mapping[str, int] | None) -> str:
    """In one line, who holds things up."""
    if not source_finished:
        return "the source sends nothing more and does not end"
    behind = [
        f"{stage} does not answer" if lag is None else f"{stage} is {lag} behind"
        for stage, lag in lags.items()
        if lag != 0
    ]
    if behind:
        return ", ".join(behind)
    if ledger is None:
        return "the sinks tell no ledger"
    return "the ledger does not balance: " + ", ".join(f"{key} {ledger[key]}" for key in KEYS)
