"""A real broker for the tests of this folder: the embedded Kafka, in a directory that goes away with the session."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
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


def prepared(data_dir: Path) -> tuple[Settings, Broker]:
    settings = Settings(data_dir=data_dir, kafka_bootstrap_servers="")
    return settings, Broker.prepare(settings, lambda *_: None, 21092)


@contextlib.contextmanager
def kafka_with_topics(data_dir: Path, formatted: Path) -> Iterator[Settings]:
    """Settings of a running broker that has all topics."""
    shutil.copytree(formatted, data_dir / "kafka")
    settings, broker = prepared(data_dir)
    with running(broker):
        ready = settings.model_copy(update={"kafka_bootstrap_servers": broker.bootstrap_servers})
        wait_for_broker(ready)
        topics.apply(ready)
        yield ready


@pytest.fixture(scope="session")
def formatted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a broker that never ran: made once, for it takes a Java of its own."""
    _, broker = prepared(tmp_path_factory.mktemp("formatted"))
    return broker.home


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory, formatted: Path) -> Iterator[Settings]:
    """A broker for all tests of the session: use topics, keys or groups of your own."""
    with kafka_with_topics(tmp_path_factory.mktemp("kafka") / "data with a space", formatted) as settings:
        yield settings


@pytest.fixture
def own_kafka(tmp_path: Path, formatted: Path) -> Iterator[Settings]:
    """A broker for one test alone, which may do to it what it likes (takes some seconds)."""
    with kafka_with_topics(tmp_path, formatted) as settings:
        yield settings
