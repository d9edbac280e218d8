"""`crossfade ledger`: what was accepted and where it is, in total, by hour or by way in."""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from crossfade.drain import KEYS
from crossfade.output import Format, answer_of, show
from crossfade.problem import ProblemError
from schemas import topics
from schemas.kafka import admin
from schemas.settings import Settings
from sinks.audit import age_s, oldest_unread_ms
from sinks.ledger import Ledger, Line, counts, ends_of, figures, lines
from warehouse.runner import reader

_COLUMNS = (*KEYS, "age_s", "difference")
_UNREAD = "(not read yet)"


def show_ledger(settings: Settings, by: str | None, form: Format) -> bool:
    """Prints the ledger; whether it balances. Raises ProblemError for an unknown `by`."""
    if by not in (None, "hour", "source"):
        raise ProblemError(f"There is no ledger by {by}: it is hour or source.")
    source = reader(settings)
    told = counts(source)
    oldest_ms = None
    if settings.kafka_bootstrap_servers:
        ends = ends_of(admin(settings), [topics.EVENTS])
        found = figures(told, ends)
        oldest_ms = oldest_unread_ms(settings, told.progress, ends)
    else:
        found = figures(told, {place: (own.first_offset, own.next_offset) for place, own in told.progress.items()})
        print("No Kafka runs: this is the ledger of the last commit.", file=sys.stderr)
    now_ms = time.time_ns() // 1_000_000
    if by is None:
        show(answer_of([found.as_dict()], *KEYS), form)
        return found.balances
    detail = lines(source)
    rows = by_hour(detail) if by == "hour" else by_source(detail)
    unread = found.in_flight - sum(line.in_flight for line in detail)
    if unread > 0:
        rows.append({by: _UNREAD, "in_flight": unread, "accepted": unread, "age_s": age_s([], now_ms, oldest_ms)})
    show(answer_of(rows, *(("hour",) if by == "hour" else ("tenant", "source")), *_COLUMNS), form)
    return found.balances and balanced(detail, found)


def balanced(detail: Iterable[Line], found: Ledger) -> bool:
    """Whether every line balances, and all of them together are what Kafka acknowledged."""
    return found.balances and not any(line.difference for line in detail)


def by_hour(detail: Iterable[Line]) -> list[dict[str, Any]]:
    """One row per hour, the newest first."""
    return _summed(detail, ("hour",))


def by_source(detail: Iterable[Line]) -> list[dict[str, Any]]:
    """One row per tenant and way in."""
    return sorted(_summed(detail, ("tenant", "source")), key=lambda row: (row["tenant"], row["source"]))


def _summed(detail: Iterable[Line], keys: tuple[str, ...]) -> list[dict[str, Any]]:
    sums: dict[tuple[Any, ...], dict[str, Any]] = defaultdict(lambda: dict.fromkeys(_COLUMNS, 0))
    for line in detail:
        own = sums[tuple(getattr(line, key) for key in keys)]
        for name in (*KEYS, "difference"):
            own[name] += getattr(line, name)
        own["age_s"] = max(own["age_s"], line.age_s)
    return [{**dict(zip(keys, key, strict=True)), **own} for key, own in sums.items()]
