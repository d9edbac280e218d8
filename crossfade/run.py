"""`crossfade run`: prepares Kafka, starts every stage and a source, shows the board, and stops when it is time."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
import threading
import time
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from crossfade import home, kafka, ports, topics
from crossfade.board import Board, Row, View
from crossfade.drain import KEYS, Drain, Verdict, balances, what_is_stuck
from crossfade.observe import SILENT, Observer
from crossfade.problem import ProblemError
from crossfade.sources import Options, Source, source_of
from crossfade.stages import INTERNAL_PORT_FIELDS, SOURCE_PORT_FIELD, STAGES
from crossfade.supervisor import Supervised, last_words, stop
from schemas.kafka import wait_for_broker
from schemas.settings import HOME, Settings

KAFKA = "kafka"
SOURCE = "source"
KAFKA_START_S = 60.0
TICK_S = 0.1
_RATE_OVER_S = 3.0
_SOURCE_PORT = 9104


class Interrupts:
    """Ctrl-C and SIGTERM: counted while things run, an exception while they are prepared."""

    def __init__(self) -> None:
        self.count = 0
        self.raises = True
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)

    def _on_signal(self, _number: int, _frame: object) -> None:
        self.count += 1
        if self.raises:
            raise KeyboardInterrupt

    def hurry(self) -> bool:
        """Whether somebody asked twice."""
        return self.count > 1


@dataclass
class Pipeline:
    """The processes of one run."""

    settings: Settings
    broker: Supervised | None = None
    stages: dict[str, Supervised] = field(default_factory=dict)
    source: Supervised | None = None

    def everything(self) -> Iterator[Supervised]:
        """All processes in the order of their start."""
        yield from (one for one in (self.broker, *self.stages.values(), self.source) if one is not None)

    def stop(self, interrupts: Interrupts) -> None:
        """Stops what sends before what receives, and Kafka last; within 5 s."""
        senders = [one for one in (self.source, self.stages.get("collector")) if one is not None]
        rest = [one for one in self.stages.values() if one not in senders]
        last = [self.broker] if self.broker is not None else []
        stop(((senders, 0.5), (rest, 2.6), (last, 0.9)), interrupts.hurry)

    def note_children(self) -> None:
        """Keeps the list of processes for the next start."""
        home.note(self.settings.data_dir, [one.process.pid for one in self.everything() if one.process is not None])


def run(options: Options) -> int:
    """Runs the pipeline until it is stopped or drained; returns the exit status. Raises ProblemError."""
    interrupts = Interrupts()
    board = Board(sys.stderr if options.until_drained else sys.stdout)
    data_dir = Settings().data_dir.absolute()
    try:
        with home.held(data_dir):
            (data_dir / "endpoints.json").unlink(missing_ok=True)  # of a run that was killed
            settings = Settings(data_dir=data_dir)
            settings = settings.model_copy(update={"web_port": options.port or settings.web_port})
            source = source_of(options)
            with _ready(settings, options, board) as pipeline:
                interrupts.raises = False
                try:
                    ledger, status = _supervise(pipeline, options, source, board, interrupts)
                finally:
                    board.close()
                    pipeline.stop(interrupts)
                    (data_dir / "endpoints.json").unlink(missing_ok=True)
    except KeyboardInterrupt:
        board.close()
        board.say("stopped before anything ran")
        sys.stdout.flush()
        os._exit(130)  # downloads in flight need not be waited for: half an archive does not count
    finally:
        board.close()
    if ledger is not None:
        print(json.dumps(ledger), flush=True)
    return status


@contextmanager
def _ready(settings: Settings, options: Options, board: Board) -> Iterator[Pipeline]:
    """A pipeline with a Kafka that answers and has its topics, and addresses that others can find."""
    ports.need(settings.web_port, settings.web_host, "choose another with --port")
    ports.need(settings.collector_port, settings.collector_host, "choose another with CROSSFADE_COLLECTOR_PORT")
    if options.fresh:
        home.empty(settings.data_dir)
    own_kafka = bool(settings.kafka_bootstrap_servers)
    moved = {name: ports.reserve(getattr(settings, name) or _SOURCE_PORT) for name in INTERNAL_PORT_FIELDS}
    pipeline = Pipeline(settings.model_copy(update=moved))
    try:
        if own_kafka:
            board.say(f"Kafka: yours at {settings.kafka_bootstrap_servers}")
            if options.fresh:
                board.say(f"--fresh deleted on it: {', '.join(topics.delete(settings)) or 'nothing'}")
        else:
            _start_kafka(pipeline, board)
        for line in topics.apply(pipeline.settings):
            if own_kafka:
                board.say(f"topics: {line}")
        home.development_key(settings.dev_api_key_file)
        home.write_endpoints(settings.endpoints_file, _endpoints(pipeline.settings))
        yield pipeline
    finally:
        for one in pipeline.everything():
            one.signal(signal.SIGKILL)


def _start_kafka(pipeline: Pipeline, board: Board) -> None:
    broker = kafka.Broker.prepare(pipeline.settings, board.progress)
    log = pipeline.settings.data_dir / "logs" / "kafka.log"
    pipeline.broker = Supervised(KAFKA, broker.command(), log, broker.home)
    pipeline.settings = pipeline.settings.model_copy(update={"kafka_bootstrap_servers": broker.bootstrap_servers})
    board.say(f"Kafka: starting the embedded one at {broker.bootstrap_servers}")
    end = time.monotonic() + KAFKA_START_S
    while not (pipeline.broker.alive and kafka.answers(broker.bootstrap_servers)):
        if news := pipeline.broker.watch():
            board.news(KAFKA, news)
        if pipeline.broker.restarts > 1 or time.monotonic() > end:
            raise ProblemError(
                f"The embedded Kafka does not start from {broker.home}: "
                f"{last_words(log) or 'it says nothing'} (log: {log}). "
                "Start with --fresh to begin from nothing, or set KAFKA_BOOTSTRAP_SERVERS to use a Kafka of your own."
            )
        time.sleep(0.05)
    wait_for_broker(pipeline.settings)


def _endpoints(settings: Settings) -> dict[str, Any]:
    names = ("kafka_bootstrap_servers", "web_port", "collector_port", *INTERNAL_PORT_FIELDS)
    return {name: getattr(settings, name) for name in names}


def _environment(settings: Settings) -> dict[str, str]:
    """What the stages have to know beyond what they inherit: where this run put things."""
    stated = {f"CROSSFADE_{name.upper()}": str(value) for name, value in _endpoints(settings).items()}
    return {
        **stated,
        "KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
        "CROSSFADE_DATA_DIR": str(settings.data_dir),
        "PYTHONUNBUFFERED": "1",
    }


def _supervise(
    pipeline: Pipeline, options: Options, source: Source | None, board: Board, interrupts: Interrupts
) -> tuple[dict[str, int] | None, int]:
    """Starts stages and source and looks after them; returns the ledger to print (if asked for) and the exit status."""
    settings = pipeline.settings
    logs, environment = settings.data_dir / "logs", _environment(settings)
    for stage in STAGES:
        command = [sys.executable, "-m", stage.module]
        pipeline.stages[stage.name] = Supervised(
            stage.name, command, logs / f"{stage.name}.log", HOME, environment, after_s=stage.after_s
        )
    if source is not None:
        pipeline.source = Supervised(
            SOURCE, source.command, logs / "source.log", HOME, environment, output=logs / "source.out", once=True
        )
    addresses = {stage.name: stage.address(settings) for stage in STAGES}
    if source is not None:
        addresses[SOURCE] = f"http://127.0.0.1:{getattr(settings, SOURCE_PORT_FIELD)}"
    observer = Observer(addresses)
    watch = _Watch(pipeline, source, observer, board, time.monotonic())
    try:
        while not interrupts.count:
            watch.tick()
            if pipeline.source is not None and pipeline.source.given_up:
                raise ProblemError(f"{source.title if source else SOURCE} failed twice: {pipeline.source.reason}")
            if watch.collector_came_up():
                _greet(settings, options, board)
            if options.until_drained and (verdict := watch.drained()) is not Verdict.WAITING:
                return watch.conclude(verdict)
            time.sleep(TICK_S)
    finally:
        observer.stop()
    board.close()
    board.say("stopping")
    return None, 130 if options.until_drained else 0


class _Watch:
    """One look at everything, again and again."""

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
        if now - self._drawn >= 0.25:
            self._drawn = now
            self._board.show(self._view(now))

    @property
    def _source_finished(self) -> bool:
        return self._pipeline.source is None or self._pipeline.source.finished

    def _lags(self) -> dict[str, int | None]:
        return {stage.name: self._observer[stage.name].lag for stage in STAGES if stage.lag}

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
        alerts = self._observer["worker"].sums.get("crossfade_alerts_open")
        settings = self._pipeline.settings
        return View(
            tuple(self._rows()),
            self._rate,
            ledger,
            None if alerts is None else int(alerts),
            page_address(settings),
            now - self._began,
        )

    def _rows(self) -> Iterator[Row]:
        if (broker := self._pipeline.broker) is not None:
            yield Row(
                KAFKA, f"embedded, {self._pipeline.settings.kafka_bootstrap_servers}", *_state(broker, broker.alive)
            )
        for stage in STAGES:
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


def page_address(settings: Settings) -> str:
    """The page, as a person opens it."""
    host = settings.web_host if settings.web_host not in ("127.0.0.1", "0.0.0.0", "") else "localhost"  # noqa: S104
    return f"http://{host}:{settings.web_port}"


def curl_line(settings: Settings) -> str:
    """A command that sends one event to the collector; it takes the key from its file, so that no screen shows it."""
    event = (
        '{"event_id": "try-\'$(date +%s)\'", "event_type": "play", "user_id": "me", "track_id": "my-first-track", '
        '"timestamp": "\'$(date -u +%Y-%m-%dT%H:%M:%SZ)\'", "platform": "custom", "location": null}'
    )
    host = "localhost" if settings.collector_host in ("127.0.0.1", "0.0.0.0", "") else settings.collector_host  # noqa: S104
    key = f'"Authorization: Bearer $(cat {shlex.quote(str(settings.dev_api_key_file))})"'
    return (
        f"curl -s http://{host}:{settings.collector_port}/v1/events -H {key} "
        f"-H 'Content-Type: application/json' -d '{event}'"
    )


def _greet(settings: Settings, options: Options, board: Board) -> None:
    page = page_address(settings)
    board.say(f"page: {page}")
    board.say(f"send an event of your own: {curl_line(settings)}")
    display = sys.platform == "darwin" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if options.browser and not options.until_drained and display and sys.stdout.isatty():
        threading.Thread(target=webbrowser.open, args=(page,), daemon=True).start()
