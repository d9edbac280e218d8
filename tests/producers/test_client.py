"""The Python client against a real HTTP server with scripted answers."""

from __future__ import annotations

import json
import logging
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producers import client as package
from producers.client import Crossfade, Rejected, StoreError
from producers.client.events import new_id, sent_at, text_of
from producers.client.progress import Timing
from producers.client.retry import CAP_S, backoff_s, retry_after_s
from producers.client.store import Lease, Store
from tests.producers.scripted_collector import KEY, Collector, Scripted, serving

CHANCE = 0.75  # makes the waits of a client tell what they are for


@pytest.fixture
def collector() -> Iterator[Collector]:
    with serving() as running:
        yield running


class Waits:
    """Waits a thousandth of what it is asked for, and remembers what that was."""

    def __init__(self) -> None:
        self.asked_s: list[float] = []
        self.timing = Timing(random=lambda: CHANCE, wait=self._wait)

    def _wait(self, changed: threading.Condition, predicate: Callable[[], bool], timeout_s: float) -> bool:
        self.asked_s.append(timeout_s)
        return changed.wait_for(predicate, timeout_s / 1_000)

    @property
    def backoffs_s(self) -> list[float]:
        """Without those of an idle client, which are of one second, and of a lingering one."""
        return [wait_s for wait_s in self.asked_s if wait_s not in (1.0, 0.01)]


def quick(collector: Collector, tmp_path: Path, **more: Any) -> Crossfade:
    """A client that lingers for a moment only."""
    told = {"url": collector.url, "store": tmp_path / "queue", "linger_s": 0.01, "defaults": {"platform": "custom"}}
    return Crossfade(KEY, **{**told, **more})


def test_a_told_event_arrives_as_it_was_told(collector: Collector, tmp_path: Path) -> None:
    """Every kind of event arrives once, in order, compressed, with id, time of the call, defaults and sent_at."""
    before_ms = time.time_ns() // 1_000_000
    with quick(collector, tmp_path) as client:
        ids = [getattr(client, kind)("ann", "t-1", ms_played=7) for kind in ("play", "pause", "skip", "like", "share")]
        ids.append(
            client.track(
                {
                    "event_type": "play",
                    "user_id": "bob",
                    "track_id": "t-2",
                    "event_id": "mine",
                    "timestamp": "2026-01-05T20:15:00Z",
                    "platform": "tape",
                }
            )
        )
        assert client.flush()
        assert (client.state.accepted, client.state.queued, client.state.problem) == (6, 0, "")
    assert collector.ids == ids
    assert [event["event_type"] for event in collector.taken] == ["play", "pause", "skip", "like", "share", "play"]
    first, last = collector.taken[0], collector.taken[-1]
    assert (first["user_id"], first["track_id"], first["ms_played"], first["platform"]) == ("ann", "t-1", 7, "custom")
    assert before_ms <= first["timestamp"] <= first["sent_at"] <= time.time_ns() // 1_000_000
    assert (last["event_id"], last["timestamp"], last["platform"]) == ("mine", "2026-01-05T20:15:00Z", "tape")
    (request, *_) = collector.requests
    assert request.headers["Content-Encoding"] == "gzip"
    assert request.path == "/v1/events"


def test_events_are_sent_in_batches(collector: Collector, tmp_path: Path) -> None:
    """Two thousand events need a handful of requests, one at a time."""
    with quick(collector, tmp_path, linger_s=0.3) as client:
        for n in range(2_000):
            client.play("ann", f"t-{n}")
        assert client.flush()
    assert [event["track_id"] for event in collector.taken] == [f"t-{n}" for n in range(2_000)]
    assert len(collector.requests) <= 12
    assert collector.in_flight_most == 1


def test_what_is_private_is_not_even_kept(collector: Collector, tmp_path: Path) -> None:
    """An incognito event loses user and session before it is written to disk."""
    with quick(collector, tmp_path, defaults={"platform": "custom", "session_id": "s"}) as client:
        client.play("ann-secret", "t", incognito=True)
        assert client.flush()
    (event,) = collector.taken
    assert "user_id" not in event
    assert "session_id" not in event
    assert not any(b"ann-secret" in file.read_bytes() for file in tmp_path.iterdir())


@pytest.mark.parametrize(
    "answer",
    [Scripted(503), Scripted(500), Scripted(429), Scripted(408), Scripted(None), Scripted(202, body=b"<html>"),
     Scripted(202, body=b'{"results": []}'), Scripted(200)],
)  # fmt: skip
def test_what_fails_is_sent_again_with_the_same_ids(collector: Collector, tmp_path: Path, answer: Scripted) -> None:
    """After errors, closed connections and answers that account for nothing, every event arrives once, in order."""
    collector.script = [answer, answer]
    waits = Waits()
    with quick(collector, tmp_path, timing=waits.timing) as client:
        ids = [client.play("ann", f"t-{n}") for n in range(3)]
        assert client.flush()
        assert client.state.accepted == 3
    assert collector.ids == ids
    assert [event["event_id"] for event in collector.requests[0].events] == ids[: len(collector.requests[0].events)]
    assert waits.backoffs_s[:2] == [CHANCE, 2 * CHANCE]


def test_an_answer_that_is_lost_makes_duplicates_not_doubles(collector: Collector, tmp_path: Path) -> None:
    """When a batch was taken and its answer never came, the repetition is answered duplicate, and that is done."""
    collector.script = [Scripted(None, first_takes=True)]
    with quick(collector, tmp_path, timing=Waits().timing) as client:
        event_id = client.play("ann", "t")
        assert client.flush()
        assert (client.state.accepted, client.state.duplicate) == (0, 1)
    assert collector.ids == [event_id]


def test_a_server_that_does_not_answer_is_given_up(collector: Collector, tmp_path: Path) -> None:
    """A request ends after the time-out and is made again."""
    collector.script = [Scripted(202, delay_s=2.0)]
    with quick(collector, tmp_path, timing=Waits().timing, timeout_s=0.1) as client:
        client.play("ann", "t")
        assert client.flush()
    assert len(collector.ids) == 1


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_honoured(collector: Collector, tmp_path: Path, status: int) -> None:
    """The next attempt comes no sooner than the server asks, as a number or a date, and with jitter added."""
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=500), usegmt=True)
    collector.script = [Scripted(status, retry_after="20"), Scripted(status, retry_after=soon)]
    waits = Waits()
    with quick(collector, tmp_path, timing=waits.timing) as client:
        client.play("ann", "t")
        assert client.flush(3_600)
    first_s, second_s = waits.backoffs_s[:2]
    assert first_s == 20 + CHANCE
    assert 490 < second_s < 502


def test_a_batch_that_is_too_large_is_halved(collector: Collector, tmp_path: Path) -> None:
    """413 splits a batch until it fits; nothing is lost and the order stays."""
    collector.events_max = 7
    with quick(collector, tmp_path, linger_s=0.2) as client:
        ids = [client.play("ann", f"t-{n}") for n in range(50)]
        assert client.flush()
    assert collector.ids == ids


def test_an_event_that_is_too_large_alone_is_rejected(collector: Collector, tmp_path: Path) -> None:
    """413 for a single event hands it back, and its neighbours go on."""
    collector.script = [Scripted(413)]
    found: list[Rejected] = []
    with quick(collector, tmp_path, on_rejected=found.append) as client:
        client.play("ann", "large")
        assert client.flush()
        second = client.play("ann", "small")
        assert client.flush()
    assert [(told.event["track_id"], told.reason) for told in found] == [("large", "too_large")]
    assert collector.ids == [second]


def test_rejected_events_are_handed_back_and_never_sent_again(collector: Collector, tmp_path: Path) -> None:
    """A rejection tells event, reason, detail, path and value, once; the batch's other events are accepted."""
    collector.refused = {"bad"}
    found: list[Rejected] = []
    with quick(collector, tmp_path, on_rejected=found.append) as client:
        client.play("ann", "good")
        client.play("ann", "bad", ms_played=-1)
        assert client.flush()
        assert (client.state.accepted, client.state.rejected, client.state.queued) == (1, 1, 0)
    (told,) = found
    assert (told.event["track_id"], told.reason, told.path, told.value) == ("bad", "bad_number", "$.ms_played", -1)
    assert sum(event["track_id"] == "bad" for request in collector.requests for event in request.events) == 1


def test_a_failing_callback_harms_nobody(
    collector: Collector, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What on_rejected raises is logged, and sending goes on."""
    collector.refused = {"bad"}

    def fail(_: Rejected) -> None:
        raise RuntimeError("callback")

    with quick(collector, tmp_path, on_rejected=fail) as client:
        client.play("ann", "bad")
        client.play("ann", "good")
        assert client.flush()
    assert "on_rejected failed" in caplog.text
    assert len(collector.ids) == 1


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refused_key_stops_the_hammering(
    collector: Collector, tmp_path: Path, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    """Events are kept, the next attempt is minutes away, state and log say why; a flush does not wait for nothing."""
    collector.script = [Scripted(status, body=b'{"detail": "No such key."}')] * 3
    with quick(collector, tmp_path) as client:
        client.play("ann", "t")
        began = time.monotonic()
        assert not client.flush(60)
        assert time.monotonic() - began < 5
        assert str(status) in client.state.problem
        assert "No such key." in client.state.problem
        assert client.state.queued == 1
    assert len(collector.requests) == 1
    assert "No such key." in caplog.text
    collector.script = []
    with quick(collector, tmp_path) as client:
        assert client.flush()
    assert len(collector.ids) == 1


def test_offline_events_are_sent_later_in_order(tmp_path: Path) -> None:
    """Events told while nobody listens survive the client, and the next one sends them first."""
    with serving() as gone:
        url = gone.url
    with Crossfade(KEY, url, store=tmp_path / "queue", linger_s=0.01) as client:
        ids = [client.play("ann", f"t-{n}") for n in range(100)]
        assert not client.flush(0.2)
        client.close(0.1)
    with serving() as collector, quick(collector, tmp_path) as client:
        assert client.state.queued == 100
        ids.append(client.play("ann", "last"))
        assert client.flush()
        assert collector.ids == ids


def test_a_full_queue_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Beyond max_events or max_bytes the newest is refused, counted and logged; what was taken stays."""
    with serving() as gone:
        url = gone.url
    with Crossfade(KEY, url, store=tmp_path / "queue", max_events=5) as client:
        ids = [client.play("ann", f"t-{n}") for n in range(8)]
        assert ids[5:] == [None] * 3
        assert None not in ids[:5]
        assert (client.state.queued, client.state.dropped) == (5, 3)
        client.close(0)
    with Crossfade(KEY, url, store=tmp_path / "bytes", max_bytes=1_000) as client:
        assert client.play("ann", "x" * 400)
        assert client.play("ann", "y" * 600) is None
        assert client.state.dropped == 1
        client.close(0)
    assert caplog.text.count("the queue is full") == 2
    assert client.play("ann", "after the end") is None


def test_a_caller_never_waits_for_the_disk(collector: Collector, tmp_path: Path) -> None:
    """While another program holds the queue's file, a thousand calls return at once, and all arrive afterwards."""
    with quick(collector, tmp_path) as client:
        other = sqlite3.connect(tmp_path / "queue", isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        began = time.perf_counter()
        ids = [client.play("ann", f"t-{n}") for n in range(1_000)]
        assert time.perf_counter() - began < 1.0
        time.sleep(0.1)
        assert collector.requests == []
        other.execute("ROLLBACK")
        other.close()
        assert client.flush()
    assert collector.ids == ids


def test_an_unusable_store_is_told(tmp_path: Path) -> None:
    """A file that is no queue, a newer queue and a directory are refused with a sentence."""
    (tmp_path / "text").write_text("no database" * 100)
    newer = sqlite3.connect(tmp_path / "newer")
    newer.execute("PRAGMA user_version = 9")
    newer.close()
    for name in ("text", "newer", "."):
        with pytest.raises(StoreError, match="cannot be used as a queue"):
            Crossfade(KEY, store=tmp_path / name)
    for wrong in ({"key": "", "url": "http://a"}, {"key": KEY, "url": "ftp://a"}, {"key": "a\nb", "url": "http://a"}):
        with pytest.raises(ValueError, match=r"key|url"):
            Crossfade(store=tmp_path / "queue", **wrong)


def test_the_queue_is_private_to_its_owner(collector: Collector, tmp_path: Path) -> None:
    """Nobody else can read user ids from the disk."""
    with quick(collector, tmp_path) as client:
        client.play("ann", "t")
        assert client.flush()
        modes = {file.name: file.stat().st_mode & 0o077 for file in tmp_path.iterdir() if "lease" not in file.name}
    assert modes["queue"] == 0
    assert set(modes.values()) == {0}


def test_several_clients_share_a_store_and_one_sends(collector: Collector, tmp_path: Path) -> None:
    """Events of two clients leave one store one batch at a time; when the sender closes, the other takes over."""
    first, second = quick(collector, tmp_path), quick(collector, tmp_path)
    ids = []
    for n in range(200):
        ids.append((first if n % 2 else second).play("ann", f"t-{n}"))
    assert first.flush()
    assert second.flush()
    first.close()
    ids.append(second.play("ann", "last"))
    assert second.flush()
    second.close()
    assert sorted(collector.ids) == sorted(filter(None, ids))
    assert collector.in_flight_most == 1
    for own in (ids[0:200:2], ids[1:200:2]):
        assert [found for found in collector.ids if found in own] == own


def test_a_lease_is_free_when_its_process_is_killed(tmp_path: Path) -> None:
    """Nobody else can send while a process does, and somebody can as soon as it was killed."""
    code = f"""
import sys, pathlib, time
from producers.client.store import Lease
with Lease(pathlib.Path({str(tmp_path / "queue")!r})) as lease:
    print(lease.take(), flush=True)
    time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=_environment())
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"True\n"
        with Lease(tmp_path / "queue") as lease:
            assert not lease.take()
            process.kill()
            process.wait()
            assert lease.take()
    finally:
        process.kill()
        process.communicate()


def test_killed_at_any_moment_nothing_is_lost_doubled_or_moved(collector: Collector, tmp_path: Path) -> None:
    """Eight kill -9 of clients that share a store, while the server fails at random: each event once, in order."""
    chance = random.Random(7)
    failures = [
        Scripted(503),
        Scripted(429),
        Scripted(None),
        Scripted(None, first_takes=True),
        Scripted(202, delay_s=0.1),
    ]
    code = f"""
import sys, time
from pathlib import Path
from producers.client import Crossfade
from producers.client.progress import Timing
quick = Timing(wait=lambda changed, predicate, timeout_s: changed.wait_for(predicate, min(timeout_s, 0.02)))
client = Crossfade({KEY!r}, {collector.url!r}, store=Path({str(tmp_path / "queue")!r}), linger_s=0.01, timing=quick)
for n in range(1_000_000):
    client.play(sys.argv[1], f"t-{{n}}")
    print(n, time.monotonic(), flush=True)
    time.sleep(0.002)
"""
    kept: dict[str, int] = {}
    for turn in range(4):
        names = [f"{turn}-{side}" for side in ("left", "right")]
        with collector.lock:
            collector.script += chance.choices(failures, k=4)
        processes = [
            subprocess.Popen([sys.executable, "-c", code, name], stdout=subprocess.PIPE, env=_environment(), text=True)
            for name in names
        ]
        for name, process in zip(names, processes, strict=True):
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(0.3 + chance.random() / 2)
            killed_s = time.monotonic()
            process.kill()
            told = [line.split() for line in process.communicate()[0].splitlines() if line.count(" ") == 1]
            kept[name] = max((int(n) for n, at_s in told[:-1] if float(at_s) < killed_s - 0.25), default=-1)
    collector.script.clear()
    with quick(collector, tmp_path) as client:
        assert client.flush(30)
    found: dict[str, list[int]] = {}
    for event in collector.taken:
        found.setdefault(event["user_id"], []).append(int(event["track_id"].split("-")[1]))
    for name, last in kept.items():
        assert found[name] == list(range(len(found[name])))
        assert len(found[name]) > last
    assert sum(map(len, found.values())) > 500
    assert len(set(collector.ids)) == len(collector.ids)


def test_the_end_of_a_program_sends_what_is_left(collector: Collector, tmp_path: Path) -> None:
    """A script that tells an event and ends has delivered it, without a word about closing."""
    code = f"""
from pathlib import Path
from producers.client import Crossfade
Crossfade({KEY!r}, {collector.url!r}, store=Path({str(tmp_path / "queue")!r})).play("ann", "t")
"""
    ended = subprocess.run(
        [sys.executable, "-c", code], env=_environment(), capture_output=True, timeout=30, check=True
    )
    assert ended.stderr == b""
    assert [event["track_id"] for event in collector.taken] == ["t"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("orphan", [False, True])
def test_a_forked_child_goes_on_by_itself(collector: Collector, tmp_path: Path, orphan: bool) -> None:
    """Parent and child tell events after a fork, whoever ends first; each arrives once."""
    code = f"""
import os, time
from pathlib import Path
from producers.client import Crossfade
client = Crossfade({KEY!r}, {collector.url!r}, store=Path({str(tmp_path / "queue")!r}), linger_s=0.1)
client.play("ann", "before")
time.sleep(0.05)
child = os.fork()
name = "parent" if child else "child"
if {orphan} == (child == 0):
    client.play("ann", name + "-early")
    time.sleep(1)
client.play("ann", name)
client.close(20)
if child and not {orphan}:
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
os._exit(0)
"""
    ended = subprocess.run(
        [sys.executable, "-c", code], env=_environment(), capture_output=True, timeout=60, check=True
    )
    assert ended.stderr == b""
    late = "child" if orphan else "parent"
    assert sorted(event["track_id"] for event in collector.taken) == sorted(
        ["before", "child", "parent", f"{late}-early"]
    )
    assert len(set(collector.ids)) == 4


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_forks_at_any_moment_lose_nothing(collector: Collector, tmp_path: Path) -> None:
    """Ten forks while another thread tells events: all arrive once, in order, one batch at a time."""
    code = f"""
import os, threading, time
from pathlib import Path
from producers.client import Crossfade
client = Crossfade({KEY!r}, {collector.url!r}, store=Path({str(tmp_path / "queue")!r}), linger_s=0.01)
def tell(name, count, pause_s):
    for n in range(count):
        client.play(name, f"t-{{n}}")
        time.sleep(pause_s)
teller = threading.Thread(target=tell, args=("parent", 500, 0.0005))
teller.start()
children = []
for k in range(10):
    children.append(os.fork())
    if children[-1] == 0:
        tell(f"child-{{k}}", 20, 0)
        client.close(30)
        os._exit(0)
    time.sleep(0.02)
teller.join()
client.close(30)
assert {{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children}} == {{0}}
"""
    ended = subprocess.run(
        [sys.executable, "-c", code], env=_environment(), capture_output=True, timeout=90, check=True
    )
    assert ended.stderr == b""
    told: dict[str, list[str]] = {}
    for event in collector.taken:
        told.setdefault(event["user_id"], []).append(event["track_id"])
    expected = {"parent": 500, **{f"child-{k}": 20 for k in range(10)}}
    assert told == {name: [f"t-{n}" for n in range(count)] for name, count in expected.items()}
    assert collector.in_flight_most == 1


def test_importing_the_client_imports_nothing_else_of_ours(tmp_path: Path) -> None:
    """The folder is the whole client: copied elsewhere under another name it imports the standard library only."""
    copy = tmp_path / "listening"
    shutil.copytree(Path(package.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    code = """
import sys
before = set(sys.modules)
from listening import Crossfade
print(*sorted({name.split(".")[0] for name in set(sys.modules) - before} - sys.stdlib_module_names))
"""
    ended = subprocess.run([sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}){code}"],
                           capture_output=True, text=True, check=True)  # fmt: skip
    assert ended.stdout.split() == ["listening"]
    code = "import sys, producers.client; print(*(n for n in sys.modules if n.startswith(('producers', 'schemas'))))"
    ended = subprocess.run([sys.executable, "-c", code], env=_environment(), capture_output=True, text=True, check=True)
    assert all(name == "producers" or name.startswith("producers.client") for name in ended.stdout.split())


def test_what_json_cannot_say_is_a_mistake_of_the_caller(collector: Collector, tmp_path: Path) -> None:
    """It is raised where it is made, and queues nothing."""
    with quick(collector, tmp_path) as client:
        with pytest.raises(TypeError):
            client.track({"event_type": "play", "track_id": object()})
        assert client.state.queued == 0


@settings(max_examples=30)
@given(st.lists(st.text(max_size=20), max_size=30), st.integers(1, 8), st.integers(1, 200))
def test_a_store_gives_back_what_was_kept_in_order(bodies: list[str], events_max: int, bytes_max: int) -> None:
    """Any texts come back in order, in pieces within the limits, and its size is right all the while."""
    texts = [text_of({"track_id": body}, 1)[1] for body in bodies]
    path = Path(os.environ.get("TMPDIR", "/tmp")) / f"crossfade-{uuid.uuid4().hex}"
    try:
        with Store(path) as store:
            for text in texts:
                store.append([text])
            found: list[str] = []
            while rows := store.first(events_max, bytes_max):
                size = store.size()
                assert (size.events, size.oldest_id) == (len(texts) - len(found), rows[0].id)
                assert size.bytes == sum(map(len, texts[len(found) :]))
                assert len(rows) <= events_max
                assert len(rows) == 1 or sum(len(row.body) for row in rows) <= bytes_max
                found += [row.body for row in rows]
                store.remove(rows)
            assert found == texts
            assert (store.size().events, store.size().bytes) == (0, 0)
    finally:
        for left in path.parent.glob(f"{path.name}*"):
            left.unlink()


@given(
    st.dictionaries(st.text(), st.none() | st.booleans() | st.integers() | st.text(), max_size=8), st.integers(1, 9**12)
)
def test_what_is_sent_is_what_was_told(told: dict[str, Any], now_ms: int) -> None:
    """Any fields come through as they are, on one line, beside sent_at; id and time are added where missing."""
    event_id, text = text_of(told, 5)
    line = sent_at(text, now_ms)
    assert line.isascii()
    assert "\n" not in line
    found = json.loads(line)
    assert found.pop("sent_at") == now_ms
    assert (str(found["event_id"]), bool(event_id)) == (event_id, True)
    for name in ("event_id", "timestamp"):
        assert found.pop(name) is not None
    assert found == {name: value for name, value in told.items() if name not in ("event_id", "timestamp", "sent_at")}


@given(st.integers(1, 200), st.floats(0, 1))
def test_backoff_is_full_jitter(failures: int, chance: float) -> None:
    """A wait is anything from nothing to a limit that doubles from a second to a minute."""
    wait_s = backoff_s(failures, lambda: chance)
    assert 0 <= wait_s <= min(CAP_S, 2 ** (failures - 1))
    assert backoff_s(failures, lambda: 1.0) == min(CAP_S, 2 ** (failures - 1))


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(None, 0), ("", 0), ("7", 7), ("-3", 0), ("soon", 0), ("nan", 0), ("inf", 3_600), ("1e9", 3_600),
     ("Thu, 01 Jan 1970 00:01:00 GMT", 50), ("Thu, 01 Jan 1970 00:00:01 GMT", 0)],
)  # fmt: skip
def test_retry_after_is_a_number_or_a_date(header: str | None, seconds: float) -> None:
    """Both forms of RFC 9110 count, an hour at most; anything else is no wish."""
    assert retry_after_s(header, 10_000) == seconds


def test_event_ids_are_uuids_of_version_7() -> None:
    """Ids sort by time and never repeat."""
    ids = [new_id(ms) for ms in (1, 2, 1_700_000_000_000, 1_700_000_000_001)]
    assert ids == sorted(ids)
    assert {uuid.UUID(found).version for found in ids} == {7}
    assert {uuid.UUID(found).variant for found in ids} == {uuid.RFC_4122}
    assert uuid.UUID(ids[2]).int >> 80 == 1_700_000_000_000
    assert len({new_id(5) for _ in range(10_000)}) == 10_000


def test_a_queue_that_is_broken_later_keeps_events_in_memory(
    collector: Collector, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """When the file is lost under a client, calls go on, it is told, and what cannot be kept is counted as dropped."""
    caplog.set_level(logging.ERROR)
    collector.script = [Scripted(401)]
    client = quick(collector, tmp_path)
    client.play("ann", "kept")
    assert not client.flush(5)
    damage = sqlite3.connect(tmp_path / "queue")
    damage.execute("DROP TABLE events")
    damage.commit()
    damage.close()
    client.play("ann", "lost")
    end = time.monotonic() + 10
    while "cannot be kept" not in caplog.text and time.monotonic() < end:
        time.sleep(0.01)
    client.close()
    assert client.state.dropped == 1
    assert "1 events are lost" in caplog.text


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(package.__file__).parents[2])}
