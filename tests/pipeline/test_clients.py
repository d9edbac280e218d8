"""The clients and the examples of docs/clients.md against the real collector and a real Kafka."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from producers.client.store import Store
from producers.identity import pseudonyms
from schemas import topics
from schemas.settings import HOME, Settings
from tests.pipeline import test_collector
from tests.pipeline.test_collector import free_port, records
from tests.producers.browser import CHROMIUM, QUIET, pages

PLAYER = """
import sys, time
from pathlib import Path
from producers.client import Crossfade
key, url, store, name, first, rate_per_s = sys.argv[1:]
client = Crossfade(key, url, store=Path(store), linger_s=0.02, defaults={"platform": "custom"})
print("flushed", client.flush(60), flush=True)
n = int(first)
while True:
    client.play(f"{name}-{n % 3}", f"t-{n}", event_id=f"{name}/{n}/")
    print(n, time.monotonic(), flush=True)
    n += 1
    time.sleep(1 / float(rate_per_s))
"""
KEPT_WITHIN_S = 0.5
"""What was told so long before a kill -9 is on disk, on a busy machine too."""


@contextlib.contextmanager
def collector(kafka: Settings, data_dir: Path, port: int, **environment: str) -> Iterator[str]:
    """Runs the collector on this port and gives its url."""
    with test_collector.collector(kafka, data_dir, port=port, **environment):
        yield f"http://127.0.0.1:{port}"


def key_in(data_dir: Path) -> str:
    return (data_dir / "dev-api-key").read_text().strip()


def sequence(kafka: Settings, name: str) -> list[tuple[str, int]]:
    """(user, number) of every record of a player, in the order of its partition."""
    found = records(kafka, topics.EVENTS, f"{name}/")
    return [(record["user_id"], int(record["event_id"].split("/")[1])) for record in found]


class Player:
    """A process that tells events until it is killed."""

    def __init__(self, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", PLAYER, *arguments],
            env={**os.environ, "PYTHONPATH": str(HOME)},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def wait_for_flush(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def kill(self) -> tuple[int, int]:
        """Gives (the last number told before the kill -9, the last one told KEPT_WITHIN_S earlier); -1 for none."""
        killed_s = time.monotonic()
        self._process.kill()
        output, _ = self._process.communicate()
        whole = output[: output.rfind("\n") + 1].splitlines()  # the last line may be cut by the kill
        told = [line.split() for line in whole if line[0].isdigit()]
        kept = [n for n, at_s in told if float(at_s) < killed_s - KEPT_WITHIN_S]
        return int(told[-1][0]) if told else -1, int(kept[-1]) if kept else -1


def test_killed_and_offline_every_event_is_in_kafka_and_in_order(kafka: Settings, tmp_path: Path) -> None:
    """A client is killed as it sends, goes on offline, is killed again and comes back: nothing is lost.

    What was under way at a kill may be there twice, under one event_id; the first copies are in order.
    """
    port, name, store = free_port(), "player", tmp_path / "queue"
    with collector(kafka, tmp_path, port) as url:
        told = (key_in(tmp_path), url, str(store), name)
        first = Player(*told, "0", "400")
        assert first.wait_for_flush() == "flushed True"
        time.sleep(1.5)
        ended_1, kept_1 = first.kill()
        second = Player(*told, "100000", "400")
        assert second.wait_for_flush() == "flushed True"
        time.sleep(0.7)
    time.sleep(1.0)
    ended_2, kept_2 = second.kill()
    with Store(store) as left:
        assert left.size().events > 200
    with collector(kafka, tmp_path, port):
        third = Player(*told, "200000", "100")
        assert third.wait_for_flush() == "flushed True"
        third.kill()
    found = list(dict.fromkeys(sequence(kafka, name)))
    numbers = sorted(number for _, number in found)
    for start, ended, kept in ((0, ended_1, kept_1), (100_000, ended_2, kept_2)):
        own = [number for number in numbers if start <= number < start + 100_000]
        assert own == list(range(start, start + len(own)))
        assert kept <= own[-1] <= ended + 1
    for _, of_user in itertools.groupby(sorted(found, key=lambda one: one[0]), key=lambda one: one[0]):
        of_one = [number for _, number in of_user]
        assert of_one == sorted(of_one)


def test_a_page_delivers_to_the_real_collector(kafka: Settings, tmp_path: Path) -> None:
    """From another origin, by fetch and by beacon, each event is in Kafka; the next visit doubles none."""
    if CHROMIUM is None:
        pytest.skip("no chromium or google-chrome on this machine")
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with (
        pages() as origin,
        collector(kafka, tmp_path, free_port(), CROSSFADE_COLLECTOR_CORS_ORIGINS=json.dumps([origin])) as url,
        sync_api.sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        context = browser.new_context()

        def visit(**more: Any) -> Any:
            page = context.new_page()
            page.goto(origin)
            page.wait_for_function("window.ready")
            page.evaluate("([key, url, more]) => window.open_client(key, url, more)", [key_in(tmp_path), url, more])
            return page

        page = visit()
        ids = page.evaluate("window.tell('page-fetch', 300)")
        assert page.evaluate("window.client.close(20000)")
        page = visit(lingerMs=3_600_000)
        ids += page.evaluate("window.tell('page-beacon', 5)")
        page.goto("about:blank")
        end = time.monotonic() + 20
        while len(records(kafka, topics.EVENTS, "page-beacon-")) < 5 and time.monotonic() < end:
            page.wait_for_timeout(100)
        page = visit(ahead_ms=5_000)
        assert page.evaluate("window.client.close(20000)")
        assert page.evaluate("[window.client.state.duplicate, localStorage.length]") == [5, 0]
        browser.close()
    found = {user: records(kafka, topics.EVENTS, f"page-{user}-") for user in ("fetch", "beacon")}
    assert [record["event_id"] for record in found["fetch"] + found["beacon"]] == ids


def examples(language: str) -> list[str]:
    """The code blocks of docs/clients.md in this language."""
    text = (HOME / "docs" / "clients.md").read_text()
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_the_examples_of_the_documentation_work(kafka: Settings, tmp_path: Path) -> None:
    """Python, Node, curl and direct Kafka, as they stand there: their events are in Kafka under the same pseudonym."""
    python, direct = examples("python")
    (curl,) = examples("bash")
    (javascript,) = examples("js")
    mine = kafka.model_copy(update={"data_dir": tmp_path})
    ann = pseudonyms(mine, mine.tenant).of("ann")
    secret = (tmp_path / "secrets" / "pseudonym-default").read_text().strip()
    with collector(kafka, tmp_path, free_port()) as url:
        environment = {
            **os.environ,
            "PYTHONPATH": str(HOME),
            "HOME": str(tmp_path),
            "CROSSFADE_URL": url,
            "CROSSFADE_KEY": key_in(tmp_path),
            "KAFKA_BOOTSTRAP_SERVERS": kafka.kafka_bootstrap_servers,
            "PSEUDONYM_SECRET": secret,
        }
        commands = [
            [sys.executable, "-c", python],
            [sys.executable, "-c", direct],
            ["bash", "-euo", "pipefail", "-c", curl],
        ]
        if shutil.which("node"):
            commands.append(["node", "--input-type=module", "-e", javascript])
        for command in commands:
            ended = subprocess.run(
                command, cwd=HOME, env=environment, capture_output=True, text=True, timeout=60, check=False
            )
            assert (ended.returncode, ended.stderr) == (0, ""), ended.stderr
    found = [record for record in records(kafka, topics.EVENTS, ann) if record["key"] == ann.encode()]
    told = [(record["source"], record["event_type"], record["track_id"]) for record in found]
    expected = [
        *(("collector", kind, "t-17") for kind in ("play", "skip")),
        ("radio-server", "play", "t-17"),
        *(("collector", kind, "t-17") for kind in ("play", "pause")),
        *(("collector", kind, "t-17") for kind in ("play", "pause") if shutil.which("node")),
    ]
    assert told == expected
    private = [record for record in records(kafka, topics.EVENTS, "t-18") if record["incognito"]]
    assert [(record["user_id"], record["key"]) for record in private] == [(None, private[0]["event_id"].encode())]
