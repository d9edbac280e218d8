"""The collector under load by wrk, beside the same endpoint written plainly: `python -m bench.collector`."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench import results
from bench.cluster import Cluster, cluster
from crossfade import topics
from crossfade.child import with_parent
from producers.collector.keyring import Keyring
from schemas import kafka
from schemas.topics import EVENTS

_BATCH = 100
_CONNECTIONS, _THREADS = 32, 1
_HALF_OF_THE_BAR = 25_000
_UNLIMITED = 10_000_000
_START_S = 60.0
_WARM_UP_S = 6  # so long until most users have been seen once: the first time each costs an HMAC
_SCRIPT = Path(__file__).with_suffix(".lua")
_BODIES = {"crossfade, NDJSON": "application/x-ndjson", "crossfade, array": "application/json"}
_PLAIN = {"plain, array, asyncio producer": "asyncio", "plain, array, a future an event": "futures"}


@dataclass(frozen=True)
class Load:
    """One run: `events_per_s` is 0 where nothing was held back."""

    server: str
    asked_events_per_s: int
    events: int
    seconds: float
    cpu_s: float
    p50_ms: float
    p99_ms: float
    refused: int

    @property
    def events_per_s(self) -> int:
        """Acknowledged by Kafka and answered with 202."""
        return round(self.events / self.seconds)

    @property
    def events_per_cpu_s(self) -> int:
        """Of the process under load: what one core of its own would do."""
        return round(self.events / self.cpu_s)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints, and writes its section of bench/RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=10, help="of each run")
    parser.add_argument("--no-write", action="store_true", help="leave bench/RESULTS.md as it is")
    options = parser.parse_args(arguments)
    if shutil.which("wrk") is None:
        sys.exit("wrk is not installed: `apt-get install wrk` or https://github.com/wg/wrk")
    loads: list[Load] = []
    with cluster() as kafka_node:
        topics.apply(kafka_node.settings)
        with _collector(kafka_node) as (process, url, key):
            for name, media_type in _BODIES.items():
                loads.append(_load(kafka_node, process, url, key, name, media_type, 0, options.seconds))
            half = (name, media_type, _HALF_OF_THE_BAR, options.seconds)
            loads.append(_load(kafka_node, process, url, key, *half))
        for name, producer in _PLAIN.items():
            with _plain(kafka_node, producer) as (process, url, key):
                loads.append(_load(kafka_node, process, url, key, name, "application/json", 0, options.seconds))
    text = _report(loads, options.seconds)
    print(text)
    if not options.no_write:
        results.write("Collector", text)
    return 0


def _load(
    node: Cluster,
    process: psutil.Process,
    url: str,
    key: str,
    server: str,
    media_type: str,
    events_per_s: int,
    seconds: int,
) -> Load:
    _wrk(url, key, media_type, events_per_s, _WARM_UP_S)
    ends, cpu_s = _ends(node), _cpu_s(process)
    told = _wrk(url, key, media_type, events_per_s, seconds)
    cpu_s = _cpu_s(process) - cpu_s
    events = int(told["requests"] - told["refused"]) * _BATCH
    if _ends(node) - ends < events:
        sys.exit(f"{server}: fewer events are in Kafka than were answered with 202")
    if told["broken"]:
        sys.exit(f"{server}: {told['broken']} requests were not answered")
    load = Load(
        server, events_per_s, events, told["seconds"], cpu_s, told["p50_ms"], told["p99_ms"], int(told["refused"])
    )
    print(load, file=sys.stderr)
    return load


def _wrk(url: str, key: str, media_type: str, events_per_s: int, seconds: int) -> dict[str, float]:
    command = ["wrk", f"-t{_THREADS}", f"-c{_CONNECTIONS}", f"-d{seconds}", "--timeout", "10", "-s", str(_SCRIPT), url]
    arguments = [key, str(_BATCH), str(events_per_s / _BATCH), media_type, str(_THREADS)]
    done = subprocess.run([*command, "--", *arguments], capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


@contextlib.contextmanager
def _collector(node: Cluster) -> Iterator[tuple[psutil.Process, str, str]]:
    key, _ = Keyring(node.settings).create("bench", "default", "write", _UNLIMITED, "")
    port = _free_port()
    environment = {
        "CROSSFADE_DATA_DIR": str(node.settings.data_dir),
        "CROSSFADE_COLLECTOR_PORT": str(port),
        "KAFKA_BOOTSTRAP_SERVERS": node.settings.kafka_bootstrap_servers,
    }
    with _running(["-m", "producers.collector"], environment, f"http://127.0.0.1:{port}/readyz") as process:
        yield process, f"http://127.0.0.1:{port}/v1/events", key


@contextlib.contextmanager
def _plain(node: Cluster, producer: str) -> Iterator[tuple[psutil.Process, str, str]]:
    key, port = secrets.token_urlsafe(32), _free_port()
    servers = node.settings.kafka_bootstrap_servers
    environment = {"PLAIN_KEY": key, "PLAIN_PRODUCER": producer, "KAFKA_BOOTSTRAP_SERVERS": servers}
    command = ["-m", "uvicorn", "bench.plain_collector:app", "--port", str(port), "--no-access-log"]
    with _running(command, environment, f"http://127.0.0.1:{port}/openapi.json") as process:
        yield process, f"http://127.0.0.1:{port}/v1/events", key


@contextlib.contextmanager
def _running(arguments: Sequence[str], environment: dict[str, str], ready: str) -> Iterator[psutil.Process]:
    process = subprocess.Popen(
        with_parent([sys.executable, *arguments]), env={**os.environ, **environment}, stderr=subprocess.DEVNULL
    )
    try:
        end = time.monotonic() + _START_S
        while not _answers(ready):
            if process.poll() is not None or time.monotonic() > end:
                sys.exit(f"{' '.join(arguments)} did not start")
            time.sleep(0.1)
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except OSError:
        return False


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _cpu_s(process: psutil.Process) -> float:
    times = [p.cpu_times() for p in (process, *process.children(recursive=True))]
    return float(sum(t.user + t.system for t in times))


def _ends(node: Cluster) -> int:
    consumer = kafka.consumer(node.settings)
    try:
        return node.ends(EVENTS, consumer)
    finally:
        consumer.close()


def _report(loads: Sequence[Load], seconds: int) -> str:
    rows = [
        [
            load.server,
            f"{load.asked_events_per_s:,} events/s" if load.asked_events_per_s else "all it takes",
            f"{load.events_per_s:,}",
            f"{load.events_per_cpu_s:,}",
            f"{load.p50_ms:.1f}",
            f"{load.p99_ms:.1f}",
            load.refused,
        ]
        for load in loads
    ]
    head = ["server", "load", "events/s", "events per CPU-second", "p50 (ms)", "p99 (ms)", "answers that are not 2xx"]
    full = {load.server: load.events_per_cpu_s for load in loads if not load.asked_events_per_s}
    ours = max(rate for name, rate in full.items() if name not in _PLAIN)
    ratios = " and ".join(f"{ours / full[name]:.1f} times {name}" for name in _PLAIN)
    return "\n\n".join(
        [
            f"`python -m bench.collector --seconds {seconds}`: {results.machine()}, wrk on the same cores.",
            f"Requests of {_BATCH} events of 330 bytes on {_CONNECTIONS} connections, each event with its own id; "
            "100,000 users. A request counts when it was answered with 202, which both servers say once all in-sync "
            "replicas have every event of it; Kafka's offsets are compared. CPU is that of the server's process, "
            "threads of the Kafka client included. Plain: FastAPI, pydantic and fastavro, waiting for Kafka "
            "by the client's asyncio producer or by a future for each event (`bench/plain_collector.py`); it knows "
            "neither reasons nor dead letters.",
            results.table(head, rows),
            f"Per CPU-second the collector (the better of its two bodies) does {ratios}.",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
