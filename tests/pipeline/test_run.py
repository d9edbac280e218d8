"""`crossfade run` as a person runs it: a real Kafka, every stage, and what happens when they are killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from crossfade import ports
from crossfade.kafka import Broker
from schemas.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
LEDGER = ("accepted", "loaded", "dead_lettered", "deduplicated", "in_flight")


class Run:
    """A `crossfade run` in a directory of its own."""

    def __init__(self, data_dir: Path, *arguments: str) -> None:
        data_dir.mkdir(parents=True, exist_ok=True)
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("CROSSFADE_", "KAFKA_"))}
        self.environment = {
            **inherited,
            "CROSSFADE_DATA_DIR": str(data_dir),
            "CROSSFADE_COLLECTOR_PORT": str(ports.reserve(22081)),
        }
        self.data_dir = data_dir
        self.messages = data_dir.parent / f"{data_dir.name}.stderr"
        command = [sys.executable, "-m", "crossfade", "run", "--port", str(ports.reserve(22000)), "--no-browser"]
        with self.messages.open("wb") as stderr:
            self.process = subprocess.Popen(
                [*command, *arguments], cwd=ROOT, env=self.environment, stdout=subprocess.PIPE, stderr=stderr, text=True
            )

    def family(self) -> list[psutil.Process]:
        """Every process that it has started."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def stage(self, module: str) -> psutil.Process | None:
        """The process that runs a module or Java class."""
        for process in self.family():
            with contextlib.suppress(psutil.Error):
                if module in process.cmdline():
                    return process
        return None

    def until(self, condition: Callable[[], object], what: str, seconds: float = 120) -> Any:
        """Waits; fails with everything that was said."""
        end = time.monotonic() + seconds
        while not (found := condition()):
            assert self.process.poll() is None, f"ended with {self.process.returncode}: {self.messages.read_text()}"
            assert time.monotonic() < end, f"not within {seconds} s: {what}\n{self.messages.read_text()}"
            time.sleep(0.05)
        return found

    def up(self, stage: str) -> bool:
        """Whether the board has told that a stage is up."""
        return f" {stage} up" in self.messages.read_text()

    def result(self, seconds: float = 240) -> dict[str, int]:
        """The ledger that it printed last; fails unless it ended with status 0."""
        out, _ = self.process.communicate(timeout=seconds)
        assert self.process.returncode == 0, self.messages.read_text()
        ledger: dict[str, int] = json.loads(out.splitlines()[-1])
        assert tuple(ledger) == LEDGER
        assert ledger["accepted"] == ledger["loaded"] + ledger["dead_lettered"] + ledger["deduplicated"]
        assert ledger["in_flight"] == 0
        return ledger

    def query(self, sql: str) -> list[dict[str, Any]]:
        """What `crossfade query` answers."""
        answer = subprocess.run(
            [sys.executable, "-m", "crossfade", "query", "--format", "json", sql],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        rows: list[dict[str, Any]] = json.loads(answer.stdout)
        return rows


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    """Starts runs, and leaves none behind."""
    runs: list[Run] = []

    def start(*arguments: str, name: str = "data with a space") -> Run:
        runs.append(Run(tmp_path / name, *arguments))
        return runs[-1]

    yield start
    for run in runs:
        if run.process.poll() is None:
            run.process.kill()
        run.process.wait(10)
        if run.process.stdout is not None:
            run.process.stdout.close()


def test_everything_is_loaded_though_every_stage_is_killed(start: Callable[..., Run]) -> None:
    """Kill -9 of source, sink, worker, Kafka and enrichment while events flow: each event is loaded once."""
    run = start("--events", "40000", "--seed", "3", "--until-drained", "--fresh")
    for module in ("producers.simulator", "sinks", "stream_processors", "kafka.Kafka", "enrichment"):
        victim = run.until(lambda module=module: run.stage(module), f"a process of {module}")
        victim.kill()
        run.until(lambda victim=victim, module=module: run.stage(module) not in (None, victim), f"{module} again")
    ledger = run.result()
    found = run.query("SELECT COUNT(*) AS events, COUNT(DISTINCT event_id) AS ids FROM events")[0]
    assert found == {"events": ledger["loaded"], "ids": ledger["loaded"]}
    told = run.messages.read_text()
    for stage in ("source", "sinks", "worker", "kafka", "enrichment"):
        assert f"{stage} died (killed by SIGKILL); started again" in told


def test_a_recording_with_duplicates_and_broken_lines(start: Callable[..., Run], tmp_path: Path) -> None:
    """Every good event exactly once, every broken line with its reason and bytes; a second run adds nothing."""
    good = [
        {"event_id": f"e{i}", "event_type": "play", "user_id": f"u{i % 7}", "track_id": f"t{i % 3}",
         "timestamp": 1_760_000_000_000 + i * 1000, "platform": "custom", "location": None}
        for i in range(300)
    ]  # fmt: skip
    lines = [json.dumps(event).encode() for event in [*good, *good[:20]]]
    lines[10:10] = [b'{"event_id": "broken', b"\xff\xfe", b'{"event_id": "x"}']
    recording = tmp_path / "a recording.jsonl"
    recording.write_bytes(b"\n".join(lines) + b"\n")
    first = start("--replay", str(recording), "--until-drained", "--fresh")
    wanted = {"accepted": 323, "loaded": 300, "dead_lettered": 3, "deduplicated": 20, "in_flight": 0}
    assert first.result() == wanted
    letters = first.query("SELECT reason, payload FROM dead_letters ORDER BY reason")
    assert [letter["reason"] for letter in letters] == ["invalid_utf8", "not_json", "unknown_type"]
    plays = first.query("SELECT track_id, COUNT(*) AS plays FROM events GROUP BY 1 ORDER BY 1")
    assert plays == [{"track_id": f"t{i}", "plays": 100} for i in range(3)]
    again = start("--replay", str(recording), "--until-drained").result()
    assert again["loaded"] == 300
    assert again["dead_lettered"] == 3
    assert again["deduplicated"] == 20 + 323


def test_ctrl_c_stops_everything_within_five_seconds(start: Callable[..., Run], tmp_path: Path) -> None:
    """While events flow a command beside it does its work; SIGINT: status 0, no process left, and the data stays."""
    run = start("--scenario", "spotify", name="data")
    assert run.process.stdout is not None
    lines = iter(run.process.stdout.readline, "")
    assert any(" sinks up" in line for line in lines)
    history = tmp_path / "history.json"
    history.write_text('[{"endTime": "2024-01-01 10:00", "artistName": "a", "trackName": "t", "msPlayed": 60000}]')
    command = [sys.executable, "-m", "crossfade", "import", str(history), "--format", "json"]
    done = subprocess.run(
        command, check=False, cwd=ROOT, env=run.environment, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, json.loads(done.stdout)["imported"]) == (0, 1), done.stderr
    family = run.family()
    assert len(family) >= 6
    began = time.monotonic()
    run.process.send_signal(signal.SIGINT)
    assert run.process.wait(10) == 0
    assert time.monotonic() - began < 5.5
    assert not [process for process in family if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
    assert not (run.data_dir / "endpoints.json").exists()
    assert (run.data_dir / "kafka").exists()
    assert "stop_cut_short" not in (run.data_dir / "logs" / "worker.log").read_text()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux ends children with their parent")
def test_kill_9_of_the_run_leaves_no_process(start: Callable[..., Run]) -> None:
    """However the run ends, nothing stays behind, and the next start carries on from the data."""
    run = start("--events", "3000", "--until-drained", "--fresh")
    run.until(lambda: run.up("source") and run.stage("sinks"), "a source and a sink")
    family = run.family()
    run.process.kill()
    _, left = psutil.wait_procs(family, timeout=10)
    assert not left
    run.process.wait(10)
    ledger = start("--scenario", "none", "--until-drained").result()
    assert ledger["accepted"] <= 3000


def test_a_broken_kafka_directory_is_told_plainly(start: Callable[..., Run], tmp_path: Path) -> None:
    """No traceback and no endless restart: the message names the directory and --fresh."""
    broker = Broker.prepare(Settings(data_dir=tmp_path / "broken", kafka_bootstrap_servers=""), lambda *_: None)
    (broker.home / "log" / "meta.properties").write_text("broken\n")
    broken = start("--scenario", "none", "--until-drained", name="broken")
    out, _ = broken.process.communicate(timeout=120)
    assert broken.process.returncode == 1
    assert out == ""
    told = broken.messages.read_text()
    assert "Traceback" not in told
    assert "Start with --fresh to begin from nothing" in told
