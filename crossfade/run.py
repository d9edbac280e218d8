"""`crossfade run`: prepares Kafka, starts every stage and a source, shows the board, and stops when it is time."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from crossfade import home, ports, topics
from crossfade.board import Board
from crossfade.drain import Verdict
from crossfade.greeting import greet
from crossfade.observe import KAFKA_SCHEME, Observer
from crossfade.pipeline import KAFKA, SOURCE, Interrupts, Pipeline, reserve_ports
from crossfade.problem import ProblemError
from crossfade.sources import Options, Source, source_of
from crossfade.stages import SOURCE_PORT_FIELD, stages_of
from crossfade.supervisor import Supervised
from crossfade.watch import Watch
from schemas.settings import HOME, Settings

TICK_S = 0.1


def run(options: Options) -> int:
    """Runs the pipeline until it is stopped or drained; returns the exit status. Raises ProblemError."""
    interrupts = Interrupts()
    board = Board(sys.stderr if options.until_drained else sys.stdout)
    data_dir = Settings().data_dir.absolute()
    try:
        with home.held(data_dir):
            (data_dir / "endpoints.json").unlink(missing_ok=True)  # of a run that was killed
            settings = Settings(data_dir=data_dir)
            asked = {"web_port": options.port or settings.web_port, "workers": options.workers or settings.workers}
            settings = settings.model_copy(update=asked)
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
    pipeline = Pipeline(settings.model_copy(update=reserve_ports(settings)))
    try:
        if own_kafka:
            board.say(f"Kafka: yours at {settings.kafka_bootstrap_servers}")
            if options.fresh:
                board.say(f"--fresh deleted on it: {', '.join(topics.delete(settings)) or 'nothing'}")
        else:
            pipeline.start_kafka(board)
        for line in topics.apply(pipeline.settings):
            if own_kafka:
                board.say(f"topics: {line}")
        home.development_key(settings.dev_api_key_file)
        home.write_endpoints(settings.endpoints_file, pipeline.endpoints())
        yield pipeline
    finally:
        for one in pipeline.everything():
            one.signal(signal.SIGKILL)


def _supervise(
    pipeline: Pipeline, options: Options, source: Source | None, board: Board, interrupts: Interrupts
) -> tuple[dict[str, int] | None, int]:
    """Starts stages and source and looks after them; returns the ledger to print (if asked for) and the exit status."""
    settings = pipeline.settings
    logs = settings.data_dir / "logs"
    pipeline.add_stages(stages_of(settings))
    if source is not None:
        pipeline.source = Supervised(
            SOURCE,
            source.command,
            logs / "source.log",
            HOME,
            pipeline.environment(),
            output=logs / "source.out",
            once=True,
        )
    addresses = pipeline.addresses()
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
