"""`crossfade chaos`: a pipeline of its own under kill -9 and stops, and afterwards a recount of every row.

It never touches a pipeline, a Kafka or a warehouse of the user: data, ports and broker are its own and temporary.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from confluent_kafka import Producer
from pydantic import SecretStr
from rich.console import Console

from crossfade import home, ports, topics
from crossfade.board import Board
from crossfade.chaos_client import PatientClient
from crossfade.chaos_compare import compare
from crossfade.chaos_faults import Fault, Kind, plan
from crossfade.chaos_log import GeneratedLog, generate
from crossfade.chaos_report import Pauses, Report
from crossfade.drain import Drain, Verdict, balances, what_is_stuck
from crossfade.observe import Observer
from crossfade.pipeline import KAFKA, SOURCE, Interrupts, Pipeline, reserve_ports
from crossfade.problem import ProblemError
from crossfade.stages import SOURCE_PORT_FIELD, WORKER_MODULE, stages_of
from crossfade.supervisor import Supervised, stop
from schemas import kafka
from schemas import topics as topic_names
from schemas.event_time import WATERMARK_KEY
from schemas.settings import HOME, Settings

TICK_S = 0.05
SECONDS_PER_FAULT = 8.0
"""The log is sent so slowly that the pipeline mostly recovers from a fault before the next: sessions last 6 s."""

RATE_MAX = 10_000.0
END_MS = 2 * 86_400_000
"""Event time that goes by after the last event."""

_READY_S = 120.0
_SENDING_STALLS_S = 180.0
_FIRST_PORT = 31_000
_SECRET = "a seed leads to the same partitions"  # noqa: S105 - of made-up listeners
_UNREADABLE_SHARE = 0.0001


@dataclass(frozen=True)
class Options:
    """What a person asked `crossfade chaos` for."""

    events: int
    kills: int
    seed: int
    workers: int
    json_file: Path | None = None
    report_file: Path | None = None
    keep: bool = False


def run(options: Options) -> int:
    """Runs a campaign and shows what it found; 0 only if nothing was lost or doubled. Raises ProblemError."""
    interrupts = Interrupts()
    directory = Path(tempfile.mkdtemp(prefix="crossfade-chaos-"))
    board = Board(sys.stderr)
    good = False
    try:
        with home.held(directory / "data"):
            report = _campaign(options, directory, board, interrupts)
        report.show(Console())
        if options.json_file:
            options.json_file.write_text(json.dumps(report.as_json(), indent=2) + "\n")
        if options.report_file:
            options.report_file.write_text(report.as_markdown())
        good = report.good
    except KeyboardInterrupt:
        board.say("stopped")
        good = True
        return 130
    finally:
        if good and not options.keep:
            shutil.rmtree(directory, ignore_errors=True)
        else:
            board.say(f"kept for a look: {directory}")
    return 0 if good else 1


def _campaign(options: Options, directory: Path, board: Board, interrupts: Interrupts) -> Report:
    began = time.monotonic()
    board.say(f"writing a log of {options.events:,} events (seed {options.seed})")
    log = generate(directory / "log", options.events, options.seed)
    with _pipeline(_settings(directory / "data", options), board, interrupts) as pipeline:
        campaign = Campaign(options, pipeline, log, board, interrupts)
        ledger, balanced = campaign.run()
        campaign.stop_stages()
        board.say("comparing every table with the oracle")
        differences = compare(pipeline.settings, log, campaign.unreadable, directory / "oracle")
    return Report(
        options.seed,
        options.events,
        options.workers,
        time.monotonic() - began,
        campaign.pauses,
        differences,
        ledger,
        balanced,
    )


def _settings(data_dir: Path, options: Options) -> Settings:
    own = Settings(
        data_dir=data_dir,
        kafka_bootstrap_servers="",
        schema_registry_url="",
        warehouse="duckdb",
        workers=options.workers,
        collector_port=ports.reserve(_FIRST_PORT),
        worker_metrics_port=_FIRST_PORT + 10,
        sink_metrics_port=_FIRST_PORT + 30,
        enrichment_metrics_port=_FIRST_PORT + 40,
        simulator_metrics_port=_FIRST_PORT + 50,
        quack_port=_FIRST_PORT + 60,
        pseudonym_secrets={"default": SecretStr(_SECRET)},
        tenant="default",
    )
    return own.model_copy(update=reserve_ports(own))


_ENVIRONMENT = {
    "CROSSFADE_WAREHOUSE": "duckdb",
    "CROSSFADE_TENANT": "default",
    "CROSSFADE_ENRICHMENT_BUDGET_USD": "0",
    "CROSSFADE_PSEUDONYM_SECRETS": json.dumps({"default": _SECRET}),
}
"""What the stages must not take from the user's environment."""


@contextmanager
def _pipeline(settings: Settings, board: Board, interrupts: Interrupts) -> Iterator[Pipeline]:
    """Kafka with its topics; everything is stopped at the end."""
    pipeline = Pipeline(settings)
    try:
        pipeline.start_kafka(board)
        topics.apply(pipeline.settings)
        home.development_key(pipeline.settings.dev_api_key_file)
        home.write_endpoints(pipeline.settings.endpoints_file, pipeline.endpoints())
        interrupts.raises = False
        yield pipeline
    finally:
        interrupts.raises = False
        pipeline.stop(interrupts)


@dataclass
class Campaign:
    """Sends the log, causes the faults at their events, and waits until all is in the warehouse."""

    options: Options
    pipeline: Pipeline
    log: GeneratedLog
    board: Board
    interrupts: Interrupts
    pauses: Pauses = field(default_factory=Pauses)
    unreadable: list[str] = field(default_factory=list)
    _stopped: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        settings = self.pipeline.settings
        self._stages = [stage for stage in stages_of(settings) if stage.name != "web"]
        self.pipeline.add_stages(self._stages, _ENVIRONMENT)
        self._observer = Observer(
            {**self.pipeline.addresses(), SOURCE: f"http://127.0.0.1:{getattr(settings, SOURCE_PORT_FIELD)}"}
        )
        stages = [*(stage.name for stage in self._stages), KAFKA]
        self._faults = plan(
            self.options.seed, self.options.events, self.options.kills, stages, settings.session_timeout_ms
        )
        self._rate = min(RATE_MAX, self.options.events / max(len(self._faults) * SECONDS_PER_FAULT, 10.0))
        self._client = PatientClient(settings, self.log.files["http"], self._rate_of("http"), time.monotonic)
        self._nonsense: Producer = kafka.producer(settings)
        self._random = random.Random(self.options.seed)  # noqa: S311 - repeatable
        self._unreadable_due = max(20, round(self.options.events * _UNREADABLE_SHARE))

    def _rate_of(self, way: str) -> float:
        return max(self._rate * self.log.lines[way] / self.options.events, 1.0)

    def run(self) -> tuple[dict[str, int], bool]:
        """Returns the ledger at the end and whether it balances; raises ProblemError when the pipeline hangs."""
        try:
            self._until(self._all_up, _READY_S, "every stage being up")
            self.board.say(f"{len(self._faults)} faults, {self._rate:,.0f} events/s")
            self._start_sources()
            self._send()
            self._until(self._all_up, _READY_S, "every stage being up again")
            self._end_input()
            return self._drain()
        finally:
            self._client.stop()
            self._observer.stop()
            for name in list(self._stopped):
                self._go_on(name)

    def stop_stages(self) -> None:
        """Stops all but Kafka, so that the warehouse file is free."""
        stop(((list(self.pipeline.stages.values()), 10.0),), self.interrupts.hurry)

    def _tick(self) -> None:
        if self.interrupts.count:
            raise KeyboardInterrupt
        for one in self.pipeline.everything():
            if news := one.watch():
                self.board.news(one.name, news)
            if one.given_up:
                raise ProblemError(f"{one.name} failed twice: {one.reason}")
        now = time.monotonic()
        for name in [name for name, until in self._stopped.items() if now >= until]:
            self._go_on(name)
        time.sleep(TICK_S)

    def _until(self, condition: object, seconds: float, what: str) -> None:
        assert callable(condition)
        end = time.monotonic() + seconds
        while not condition():
            self._tick()
            if time.monotonic() > end:
                raise ProblemError(f"Not within {seconds:.0f} s: {what}. Logs: {self.pipeline.settings.data_dir}/logs")

    def _all_up(self) -> bool:
        return not self._stopped and all(
            self._observer[stage.name].ok and (not stage.lag or self._observer[stage.name].lag is not None)
            for stage in self._stages
        )

    def _start_sources(self) -> None:
        logs = self.pipeline.settings.data_dir / "logs"
        files = [str(file) for file in self.log.files["replay"]]
        command = [sys.executable, "-m", "producers.replay", *files, "--rate", f"{self._rate_of('replay'):g}"]
        environment = {**self.pipeline.environment(), **_ENVIRONMENT}
        self.pipeline.source = Supervised(
            SOURCE, command, logs / "source.log", HOME, environment, output=logs / "source.out", once=True
        )
        self._client.start()

    def _sent(self) -> int:
        source = self.pipeline.source
        assert source is not None
        if source.finished:
            return self.log.lines["replay"] + self._client.sent
        told = self._observer[SOURCE].sums
        letters = told.get("crossfade_events_rejected_total", 0.0)
        return int(told.get("crossfade_events_accepted_total", 0.0) + letters) + self._client.sent

    def _send(self) -> None:
        """Until both sources have ended and all faults have happened."""
        waiting, best, moved_at = list(self._faults), 0, time.monotonic()
        while True:
            self._tick()
            now, sent = time.monotonic(), self._sent()
            if sent > best:
                best, moved_at = sent, now
            if now - moved_at > _SENDING_STALLS_S:
                raise ProblemError(f"Nothing was sent for {_SENDING_STALLS_S:.0f} s after {best:,} events.")
            if self._client.problem:
                raise ProblemError(self._client.problem)
            self._send_nonsense(best)
            while waiting and best >= waiting[0].after and self._strike(waiting[0]):
                del waiting[0]
            source = self.pipeline.source
            ended = source is not None and source.finished and not self._client.is_alive()
            if ended and not waiting and not self._stopped:
                return
            if not ended:
                self.pauses.observe(now, self._output())

    def _output(self) -> dict[str, int]:
        """How far the pipeline's output is: the worker's offset in each partition, and the rows in the warehouse."""
        found: dict[str, int] = {}
        for stage in self._stages:
            if stage.module == WORKER_MODULE:
                for place, offset in self._observer[stage.name].next.items():
                    if place.startswith(f"{topic_names.EVENTS}/"):
                        found[place] = max(offset, found.get(place, 0))
        ledger = self._observer["sinks"].ledger
        if ledger is not None:
            found["loaded"] = ledger["loaded"]
        return found

    def _strike(self, fault: Fault) -> bool:
        """Causes a fault; False while its stage is not running."""
        one = self.pipeline.broker if fault.stage == KAFKA else self.pipeline.stages[fault.stage]
        if one is None or not one.alive or (fault.kind is Kind.STOP and fault.stage in self._stopped):
            return False
        now = time.monotonic()
        if fault.kind is Kind.KILL:
            self._stopped.pop(fault.stage, None)
            one.signal(signal.SIGKILL)
        else:
            one.signal(signal.SIGSTOP)
            self._stopped[fault.stage] = now + fault.seconds
        self.pauses.struck(now, fault)
        more = f" for {fault.seconds:.1f} s" if fault.seconds else ""
        self.board.say(f"{len(self.pauses.faults)}/{len(self._faults)} {fault.stage} {fault.kind.value}{more}")
        return True

    def _go_on(self, name: str) -> None:
        del self._stopped[name]
        one = self.pipeline.broker if name == KAFKA else self.pipeline.stages[name]
        if one is not None:
            one.signal(signal.SIGCONT)

    def _send_nonsense(self, sent: int) -> None:
        """Writes unreadable records past the doors, as another program might."""
        wanted = self._unreadable_due * sent // self.options.events
        while len(self.unreadable) < wanted:
            value = self._random.randbytes(self._random.randrange(1, 300))
            if self._random.random() < 0.5:
                value = b"\xc3\x01" + value
            self._nonsense.produce(topic_names.EVENTS, value, b"nonsense")
            self.unreadable.append(hashlib.md5(value, usedforsecurity=False).hexdigest())
        self._nonsense.poll(0)

    def _end_input(self) -> None:
        """Moves event time on by two days: every play, session and window is over then."""
        self._nonsense.flush(60)
        mark = self.log.last_ms + END_MS
        for partition in kafka.partitions_of(self._nonsense, topic_names.EVENTS):
            self._nonsense.produce(topic_names.EVENTS, None, WATERMARK_KEY, partition, timestamp=mark)
        if left := self._nonsense.flush(60):
            raise ProblemError(f"Kafka does not take the {left} records that end the input.")

    def _drain(self) -> tuple[dict[str, int], bool]:
        self.board.say("draining")
        drain = Drain(time.monotonic())
        while True:
            self._tick()
            ledger = self._observer["sinks"].ledger
            lags = {stage.name: self._observer[stage.name].lag for stage in self._stages if stage.lag}
            verdict = drain.observe(time.monotonic(), True, lags, ledger, self.options.events)
            if verdict is not Verdict.WAITING:
                break
        if verdict is not Verdict.DRAINED:
            self.board.say(f"not drained: {what_is_stuck(True, lags, ledger)}")
        found = dict(ledger or {})
        return found, verdict is Verdict.DRAINED and balances(found)
