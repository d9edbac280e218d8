"""Anomaly alerts at the front door: all of them, or each new one as it comes."""

from __future__ import annotations

import csv
import json
import sys
import time
from collections.abc import Callable
from typing import Any

from crossfade.output import Format, show
from warehouse.answer import jsonable
from warehouse.runner import Reader, WarehouseError

EVERY_S = 1.0
_COLUMNS = ("at", "status", "severity", "detector", "series", "summary", "runbook")

_ALL = """
SELECT alert_id, status, severity, detector, series, raised_at, resolved_at, summary, runbook
FROM alerts
ORDER BY raised_at, alert_id
"""
_TRANSITIONS = f"SELECT transition_id, {', '.join(f'`{c}`' for c in _COLUMNS)} FROM anomaly_alerts ORDER BY `at`"  # noqa: S608 - names of ours


def show_all(source: Reader, form: Format) -> None:
    """Prints one row per alert."""
    show(source.query(_ALL), form)


def follow(source: Reader, form: Format, sleep: Callable[[float], None]) -> None:
    """Prints every transition that is there, then each new one, until Ctrl-C.

    Goes on while the warehouse is away: says so once, and when it is back.
    """
    seen: set[str] = set()
    away = False
    if form is Format.CSV:
        csv.writer(sys.stdout, lineterminator="\n").writerow(_COLUMNS)
    while True:
        try:
            rows = source.query(_TRANSITIONS).rows
        except WarehouseError as error:
            if not away:
                print(f"{time.strftime('%H:%M:%S')} waiting: {error}", file=sys.stderr, flush=True)
            away = True
            rows = []
        else:
            away = False
        for row in rows:
            if row["transition_id"] not in seen:
                seen.add(row["transition_id"])
                _line({column: jsonable(row[column]) for column in _COLUMNS}, form)
        sleep(EVERY_S)


def _line(row: dict[str, Any], form: Format) -> None:
    if form is Format.JSON:
        print(json.dumps(row, ensure_ascii=False), flush=True)
    elif form is Format.CSV:
        csv.writer(sys.stdout, lineterminator="\n").writerow(row.values())
        sys.stdout.flush()
    else:
        print(f"{row['at']} {row['status']:8} {row['severity']:8} {row['summary']} ({row['runbook']})", flush=True)
