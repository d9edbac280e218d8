"""What a campaign found: the pauses of the pipeline, and the report as JSON, Markdown and a table for people."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from crossfade.chaos_compare import Difference
from crossfade.chaos_faults import Fault, Kind

_NOTICED_S = 1.5
"""Figures are so old at most: a pause that began so long before a fault may be its doing."""


@dataclass
class Pauses:
    """The longest time without progress after each fault. Times are monotonic seconds; figures only count upwards."""

    faults: list[tuple[float, Fault]] = field(default_factory=list)
    longest: dict[int, float] = field(default_factory=dict)
    _seen: dict[str, tuple[int, float]] = field(default_factory=dict)

    def struck(self, now: float, fault: Fault) -> None:
        """A fault has been caused."""
        self.faults.append((now, fault))

    def observe(self, now: float, figures: Mapping[str, int]) -> None:
        """Takes the pipeline's output so far: each figure has to move by itself, or stands still."""
        for name, value in figures.items():
            best, since = self._seen.get(name, (-1, now))
            if value > best:
                self._seen[name] = value, now
            self._blame(since, now)

    def _blame(self, since: float, now: float) -> None:
        """The pause is the doing of the last fault before its end that was caused after its begin."""
        for number in range(len(self.faults) - 1, -1, -1):
            at, _ = self.faults[number]
            if at <= now:
                if at >= since - _NOTICED_S:
                    pause = now - max(since, at)
                    self.longest[number] = max(pause, self.longest.get(number, 0.0))
                    continue
                return

    def by_kind(self) -> dict[tuple[str, str], list[float]]:
        """The pauses of all faults by what happened and to which sort of stage."""
        found: dict[tuple[str, str], list[float]] = {}
        for number, (_, fault) in enumerate(self.faults):
            stage = fault.stage.partition("-")[0]
            found.setdefault((fault.kind.value, stage), []).append(self.longest.get(number, 0.0))
        return found


@dataclass(frozen=True)
class Report:
    """The result of a campaign."""

    seed: int
    events: int
    workers: int
    seconds: float
    pauses: Pauses
    differences: Sequence[Difference]
    ledger: Mapping[str, int]
    balanced: bool

    @property
    def lost(self) -> int:
        """Rows that are missing, over all tables."""
        return sum(one.lost for one in self.differences)

    @property
    def doubled(self) -> int:
        """Rows that are too many, over all tables."""
        return sum(one.doubled for one in self.differences)

    @property
    def good(self) -> bool:
        """Whether nothing was lost or doubled, and the ledger says so too."""
        return not self.lost and not self.doubled and self.balanced

    @property
    def longest_pause_s(self) -> float:
        """The longest time without progress after a fault."""
        return round(max(self.pauses.longest.values(), default=0.0), 1)

    def as_json(self) -> dict[str, Any]:
        """Everything, for programs."""
        return {
            "events": self.events,
            "faults": len(self.pauses.faults),
            "kills": sum(fault.kind is Kind.KILL for _, fault in self.pauses.faults),
            "lost": self.lost,
            "doubled": self.doubled,
            "longest_pause_s": self.longest_pause_s,
            "seed": self.seed,
            "workers": self.workers,
            "seconds": round(self.seconds, 1),
            "ledger": dict(self.ledger),
            "ledger_balances": self.balanced,
            "kinds": [dict(zip(_KINDS_HEAD, row, strict=True)) for row in self._kinds()],
            "tables": [dict(zip(_TABLES_HEAD, row, strict=True)) for row in self._tables()],
            "samples": {one.table: list(one.samples) for one in self.differences if one.samples},
        }

    def _kinds(self) -> list[tuple[str, str, int, float, float]]:
        return [
            (kind, stage, len(pauses), round(statistics.median(pauses), 1), round(max(pauses), 1))
            for (kind, stage), pauses in sorted(self.pauses.by_kind().items())
        ]

    def _tables(self) -> list[tuple[str, int, int, int, int]]:
        return [(one.table, one.expected, one.found, one.lost, one.doubled) for one in self.differences]

    @property
    def sentence(self) -> str:
        """The result in one line."""
        return (
            f"{len(self.pauses.faults)} faults in {self.events:,} events with {self.workers} worker(s): {self.lost:,} "
            f"lost, {self.doubled:,} doubled, longest pause {self.longest_pause_s} s (seed {self.seed})"
        )

    def as_markdown(self) -> str:
        """Tables for a document."""
        parts = [
            f"{self.sentence}.",
            "",
            _markdown(_KINDS_HEAD, self._kinds()),
            _markdown(_TABLES_HEAD, self._tables()),
        ]
        return "\n".join(parts)

    def show(self, console: Console) -> None:
        """Tables for a person."""
        for head, rows in ((_KINDS_HEAD, self._kinds()), (_TABLES_HEAD, self._tables())):
            table = Table(box=SIMPLE_HEAD, pad_edge=False)
            for name in head:
                table.add_column(name.replace("_", " "), justify="left" if name in _TEXTS else "right")
            for row in rows:
                table.add_row(*(_cell(value) for value in row))
            console.print(table)
        for one in self.differences:
            for sample in one.samples[:5]:
                console.print(f"{one.table}: {sample}", markup=False, soft_wrap=True)
        if not self.balanced:
            console.print(f"the ledger does not balance: {dict(self.ledger)}", markup=False)
        console.print(self.sentence, style="green" if self.good else "red")


_KINDS_HEAD = ("fault", "stage", "faults", "median_pause_s", "longest_pause_s")
_TABLES_HEAD = ("table", "expected", "found", "lost", "doubled")
_TEXTS = ("fault", "stage", "table")


def _cell(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _markdown(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [" | ".join(name.replace("_", " ") for name in head)]
    lines.append(" | ".join("---" if name in _TEXTS else "---:" for name in head))
    lines += [" | ".join(_cell(value) for value in row) for row in rows]
    return "".join(f"| {line} |\n" for line in lines)
