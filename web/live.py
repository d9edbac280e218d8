"""What the page shows at a moment: state, headline, alerts, dead letters, ledger and the charts of one view."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Callable, Collection, Coroutine, Mapping
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from schemas.settings import Settings
from warehouse.answer import jsonable
from warehouse.runner import Answer, Reader
from web.answers import TAKES_LONG, Answers, Held, Threads
from web.charts import VIEWS, Chart
from web.time_range import Choice, TimeRange, choose

FRESH_S = {"duckdb": 1.0, "bigquery": 60.0}
"""How long an answer is given again: BigQuery bills every question."""

SINK_TIMEOUT_S = 1.0

_ENTRIES = ("accepted", "loaded", "dead_lettered", "deduplicated", "in_flight")


@cache
def panel(name: str) -> str:
    """The SQL of panels/<name>.sql."""
    return (Path(__file__).parent / "panels" / f"{name}.sql").read_text()


class Live:
    """Answers for every visitor at once; questions and answers are shared between them."""

    def __init__(
        self, settings: Settings, source: Reader, charts: Mapping[str, Chart], clock: Callable[[], datetime]
    ) -> None:
        self._settings, self._charts, self._clock = settings, charts, clock
        self.answers = Answers(source, FRESH_S[settings.warehouse])
        self._threads = Threads(1)
        self._sink: asyncio.Task[dict[str, Any] | None] | None = None

    async def pulse(self) -> tuple[Held, dict[str, Any] | None]:
        """The newest pulse, and the last good one as a row (None before the first)."""
        held = await self.answers.get("pulse", panel("pulse"), {"now": self._clock()}, patience_s=2.0)
        good = self.answers.kept("pulse")
        return held, good.answer.rows[0] if good else None

    def time_range(self, row: Mapping[str, Any], choice: Choice | None) -> TimeRange | None:
        """The stretch of event time to show; None without events."""
        if row["newest"] is None:
            return None
        return choose(choice, row["oldest"], row["newest"], self._clock())

    async def chart(self, chart: Chart, choice: Choice | None) -> Held:
        """A chart's rows; without events an empty answer."""
        held, row = await self.pulse()
        if row is None:
            return held
        shown = self.time_range(row, choice)
        return await self._ask(chart.key, chart.sql, shown, _version(row)) if shown else Held()

    async def snapshot(self, view: str, choice: Choice | None, have: Collection[str]) -> dict[str, Any]:
        """Everything that the page shows; rows of charts whose version is in `have` are left out."""
        held, row = await self.pulse()
        shown = self.time_range(row, choice) if row else None
        now = self._clock()
        found: dict[str, Any] = {"now": now, "state": "live", "message": None, "range": None, "views": list(VIEWS)}
        if held.error is not None or held.slow:
            found |= {"state": "reconnecting" if row else "waiting", "message": held.error or TAKES_LONG}
        elif row and not row["events"]:
            found["state"] = "waiting"
        if row is None:
            return jsonable(found)  # type: ignore[no-any-return]  # a dict gives a dict
        asks = held.error is None and not held.slow
        version = _version(row)
        here = [chart for chart in self._charts.values() if chart.view == view]
        shared = ["alerts", "dead_letter_reasons", "dead_letters", "ledger", "ledger_hours"]
        ranged = ["headline", "most_played"] if view == "similar" else ["headline"]
        questions = {
            "rate": self._ask("rate", panel("rate"), None, None, asks, {"now": now}),
            **{name: self._ask(name, panel(name), None, version, asks) for name in shared},
            **{name: self._ask(name, panel(name), shown, version, asks) for name in ranged},
            **{chart.key: self._ask(chart.key, chart.sql, shown, version, asks) for chart in here},
        }
        sink, answers = await asyncio.gather(self.sink_ledger(), _each(questions))
        ledger_rows = answers["ledger"].answer.rows
        found |= {
            "range": shown and {"choice": shown.choice, **shown.params},
            "headline": {
                **{name: row[name] for name in ("events", "open_alerts", "dead_letters")},
                **_first(answers["rate"].answer),
                **_first(answers["headline"].answer),
            },
            "ledger": {
                **ledger_state(sink, ledger_rows),
                "sources": ledger_rows,
                "hours": answers["ledger_hours"].answer.rows,
            },
            "charts": {chart.key: _chart(answers[chart.key], have) for chart in here},
        }
        for name in (*shared[:-2], *ranged[1:]):
            found[name] = {"rows": answers[name].answer.rows, "error": answers[name].error}
        return jsonable(found)  # type: ignore[no-any-return]  # a dict gives a dict

    async def _ask(
        self,
        name: str,
        sql: str,
        shown: TimeRange | None,
        version: str | None,
        asks: bool = True,
        params: Mapping[str, Any] | None = None,
    ) -> Held:
        key = f"{name}?{shown.choice}" if shown else name
        if not asks:
            return self.answers.kept(key) or Held()
        if shown is None and "@since" in sql:
            return Held()
        return await self.answers.get(key, sql, params or (shown.params if shown else {}), version)

    async def sink_ledger(self) -> dict[str, Any] | None:
        """The sink's own figures, which know what is in flight, and `waiting_for`; None when it does not answer."""
        if self._sink is None or self._sink.done():
            self._sink = asyncio.create_task(self._threads.run(self._ask_sink))
        return await asyncio.shield(self._sink)

    def _ask_sink(self) -> dict[str, Any] | None:
        url = f"http://{self._settings.stage_host}:{self._settings.sink_metrics_port}/healthz"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            try:
                with opener.open(url, timeout=SINK_TIMEOUT_S) as response:
                    told = json.load(response)
            except urllib.error.HTTPError as unwell:  # it tells its figures all the same
                told = json.load(unwell)
            figures = {name: int(told["ledger"][name]) for name in _ENTRIES}
            return {**figures, "waiting_for": told["waiting_for"]}
        except (OSError, ValueError, KeyError, TypeError):
            return None


def ledger_state(sink: Mapping[str, Any] | None, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The five figures, `difference` (what is missing), a state (balanced, in flight or imbalance), and `waiting_for`.

    Without the sink the warehouse alone answers: it does not know what is still in Kafka, and what it has read but not
    finished counts as in flight.
    """
    found: dict[str, Any]
    if sink is not None:
        found = dict(sink)
        origin = "sink"
    else:
        found = {"waiting_for": None, **{name: sum(int(row[name]) for row in rows) for name in _ENTRIES[:-1]}}
        found["in_flight"] = max(found["accepted"] - sum(found[name] for name in _ENTRIES[1:-1]), 0)
        origin = "warehouse"
    difference = found["accepted"] - sum(found[name] for name in _ENTRIES[1:])
    state = "imbalance" if difference else "in flight" if found["in_flight"] else "balanced"
    return {**found, "difference": difference, "state": state, "origin": origin}


def _version(row: Mapping[str, Any]) -> str:
    return json.dumps(jsonable(dict(row)), sort_keys=True)


def _first(answer: Answer) -> dict[str, Any]:
    return answer.rows[0] if answer.rows else {}


async def _each(questions: Mapping[str, Coroutine[Any, Any, Held]]) -> dict[str, Held]:
    return dict(zip(questions, await asyncio.gather(*questions.values()), strict=True))


def _chart(held: Held, have: Collection[str]) -> dict[str, Any]:
    if held.version in have and held.error is None:
        return {"version": held.version, "error": None}
    times = sorted({name for row in held.answer.rows for name, value in row.items() if isinstance(value, datetime)})
    return {"version": held.version, "error": held.error, "times": times, "rows": held.answer.rows}
