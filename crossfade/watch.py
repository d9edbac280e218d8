"""One look at the whole pipeline, again and again: starts what died, shows what changed, recognises the end."""

from __future__ import annotations

import time
from collections.abc import Iterator

from crossfade.board import Board, Row, View
from crossfade.drain import KEYS, Drain, Verdict, balances, what_is_stuck
from crossfade.greeting import page_address
from crossfade.observe import SILENT, Observer
from crossfade.pipeline import KAFKA, SOURCE, Pipeline
from crossfade.sources import Source
from crossfade.stages import WORKER_MODULE, stages_of
from crossfade.supervisor import Supervised
from schemas.topics import WINDOW_PARTIALS

DRAW_EVERY_S = 0.25
_RATE_OVER_S = 3.0


class Watch:
    """Looks when it is told to (`tick`), from the main thread."""

    def __init__(
        self, pipeline: Pipeline, source: Source | None, observer: Observer, board: Board, began: float
    ) -> None:
        self._pipeline, self._source, self._observer, self._board, self._began = (
            pipeline,
            source,
            observer,
            board,
            began,
        )
        self._stages = stages_of(pipeline.settings)
        self._drain = Drain(began)
        self._seen: tuple[float, float] = (began, 0.0)
        self._rate = 0.0
        self._greeted = False
        self._drawn = 0.0
        self._pids: list[int] = []

    def tick(self) -> None:
        """Starts what has died, and shows how things are."""
        for one in self._pipeline.everything():
            if news := one.watch():
                self._board.news(one.name, news)
        pids = [one.process.pid for one in self._pipeline.everything() if one.process is not None]
        if pids != self._pids:
            self._pids = pids
            self._pipeline.note_children()
        now = time.monotonic()
        if now - self._drawn >= DRAW_EVERY_S:
            self._drawn = now
            self._board.show(self._view(now))

    @property
    def _source_finished(self) -> bool:
        return self._pipeline.source is None or self._pipeline.source.finished

    def _lags(self) -> dict[str, int | None]:
        return {stage.name: self._observer[stage.name].lag for stage in self._stages if stage.lag}

    def _open_alerts(self) -> int | None:
        """The worker that judges final windows knows; what another one says was true when it did."""
        workers = [self._observer[stage.name] for stage in self._stages if stage.module == WORKER_MODULE]
        judges = [one for one in workers if any(place.startswith(f"{WINDOW_PARTIALS}/") for place in one.next)]
        found = judges[0].sums.get("crossfade_alerts_open") if judges else None
        return None if found is None else int(found)

    def _sent(self) -> float:
        return sum(
            self._observer[name].sums.get("crossfade_events_accepted_total", 0.0) for name in (SOURCE, "collector")
        )

    def _view(self, now: float) -> View:
        sent, (since, before) = self._sent(), self._seen
        if now - since >= _RATE_OVER_S:
            self._rate = max(sent - before, 0.0) / (now - since)
            self._seen = (now, sent)
        ledger = self._observer["sinks"].ledger
        settings = self._pipeline.settings
        return View(
            tuple(self._rows()),
            self._rate,
            ledger,
            self._open_alerts(),
            page_address(settings),
            now - self._began,
        )

    def _rows(self) -> Iterator[Row]:
        where = self._pipeline.settings.kafka_bootstrap_servers
        if (broker := self._pipeline.broker) is not None:
            yield Row(KAFKA, f"embedded, {where}", *_state(broker, broker.alive))
        else:
            yield Row(KAFKA, f"yours, {where}", "up" if self._observer[KAFKA].ok else "down")
        for stage in self._stages:
            one, reading = self._pipeline.stages[stage.name], self._observer[stage.name]
            state, restarts, _, note = _state(one, reading.ok, heard=reading is not SILENT)
            yield Row(stage.name, stage.does, state, restarts, reading.lag if stage.lag else None, note)
        if self._pipeline.source is not None and self._source is not None:
            yield Row(SOURCE, self._source.title, *_state(self._pipeline.source, self._pipeline.source.alive))

    def collector_came_up(self) -> bool:
        """True once, when the collector answers for the first time."""
        if self._greeted or not self._observer["collector"].ok:
            return False
        self._greeted = True
        return True

    def drained(self) -> Verdict:
        """Whether everything is in the warehouse."""
        return self._drain.observe(
            time.monotonic(), self._source_finished, self._lags(), self._observer["sinks"].ledger, int(self._sent())
        )

    def conclude(self, verdict: Verdict) -> tuple[dict[str, int] | None, int]:
        """Says how it ended; returns the ledger in the order of its keys, and the exit status."""
        found = self._observer["sinks"].ledger
        self._board.close()
        if verdict is not Verdict.DRAINED:
            self._board.say(f"not drained: {what_is_stuck(self._source_finished, self._lags(), found)}")
        if found is None:
            return None, 1
        ledger = {key: found[key] for key in KEYS}
        good = verdict is Verdict.DRAINED and balances(ledger)
        self._board.say(f"{'everything is in the warehouse' if good else 'the ledger at the end'}: {ledger}")
        return ledger, 0 if good else 1


def _state(one: Supervised, well: bool, heard: bool = True) -> tuple[str, int, int | None, str]:
    """(state, restarts, no lag, note) of a row."""
    note = f"last died: {one.reason}" if one.reason else ""
    if one.finished:
        return "finished", one.restarts, None, ""
    if not one.alive and not one.restarts:
        return "starting", 0, None, ""
    if not one.alive:
        return "down", one.restarts, None, note
    if well:
        return "up", one.restarts, None, note
    return ("unwell" if heard else "starting"), one.restarts, None, note
