"""A real broker for the tests of this folder: the embedded Kafka, in a directory that goes away with the session."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from crossfade import topics
from crossfade.child import with_parent
from crossfade.kafka import Broker, answers
from schemas.kafka import wait_for_broker
from schemas.settings import Settings


@contextlib.contextmanager
def running(broker: Broker) -> Iterator[subprocess.Popen[bytes]]:
    """Runs the node until the block ends."""
    with (broker.home / "kafka.log").open("ab") as log:
        process = subprocess.Popen(with_parent(broker.command()), cwd=broker.home, stdout=log, stderr=log)
    try:
        end = time.monotonic() + 60
        while not answers(broker.bootstrap_servers):
            assert process.poll() is None, (broker.home / "kafka.log").read_text()
            assert time.monotonic() < end, "Kafka does not answer"
            time.sleep(0.05)
        yield process
    finally:
        process.kill()
        process.wait(10)


@contextlib.contextmanager
def kafka_with_topics(data_dir: Path) -> Iterator[Settings]:
    """Settings of a running broker that has all topics."""
    settings = Settings(data_dir=data_dir, kafka_bootstrap_servers="")
    broker = Broker.prepare(settings, lambda done, total: print(f"archives {done}/{total}", file=sys.stderr), 21092)
    with running(broker):
        ready = settings.model_copy(update={"kafka_bootstrap_servers": broker.bootstrap_servers})
        wait_for_broker(ready)
        topics.apply(ready)
        yield ready


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A broker for all tests of the session: use topics, keys or groups of your own."""
    with kafka_with_topics(tmp_path_factory.mktemp("kafka") / "data with a space") as settings:
        yield settings


@pytest.fixture
def own_kafka(tmp_path: Path) -> Iterator[Settings]:
    """A broker for one test alone, which may do to it what it likes (takes about 5 s)."""
    with kafka_with_topics(tmp_path) as settings:
        yield settings
