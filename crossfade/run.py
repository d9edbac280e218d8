"""`crossfade run`: prepares Kafka, starts every stage and a source, shows the board, and stops when it is time."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from crossfade import home, kafka, ports, topics
from crossfade.board import Board
from crossfade.drain import Verdict
from crossfade.greeting import greet
from crossfade.observe import KAFKA_SCHEME, Observer
from crossfade.pipeline import KAFKA, SOURCE, Interrupts, Pipeline
from crossfade.problem import ProblemError
from crossfade.sources import Options, Source, source_of
from crossfade.stages import INTERNAL_PORT_FIELDS, SOURCE_PORT_FIELD, STAGES
from crossfade.supervisor import Supervised, last_words
from crossfade.watch import Watch
from schemas.kafka import wait_for_broker
from schemas.settings import HOME, Settings

KAFKA_START_S = 60.0
TICK_S = 0.1
_SOURCE_PORT = 9104


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
    if pipeline.broker is None:
        addresses[KAFKA] = f"{KAFKA_SCHEME}{settings.kafka_bootstrap_servers}"
    observer = Observer(addresses)
    watch = Watch(pipeline, source, observer, board, time.monotonic())
    try:
        while not interrupts.count:
            watch.tick()
            if pipeline.source is not None and pipeline.source.given_up:
                raise ProblemError(f"{source.title if source else SOURCE} failed twice: {pipeline.source.reason}")
            if watch.collector_came_up():
                greet(settings, options, board)
            if options.until_drained and (verdict := watch.drained()) is not Verdict.WAITING:
                return watch.conclude(verdict)
            time.sleep(TICK_S)
    finally:
        observer.stop()
    board.close()
    board.say("stopping")
    return None, 130 if options.until_drained else 0
