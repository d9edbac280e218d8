"""The supervisor, with small real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from crossfade.child import with_parent
from crossfade.supervisor import BACKOFF_S, STEADY_S, Supervised, last_words, stop

SLEEPER = "import time; time.sleep(60)"
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
)


class Clock:
    """A clock that moves only when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def until(condition: Callable[[], object], what: str, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.01)


def python(tmp_path: Path, code: str, clock: Callable[[], float] = time.monotonic, once: bool = False) -> Supervised:
    return Supervised(
        "it", [sys.executable, "-c", code], tmp_path / "logs" / "it.log", tmp_path, once=once, clock=clock
    )


def test_a_killed_process_is_started_again(tmp_path: Path) -> None:
    """Kill -9 is told with its reason, and the process comes back after the first pause."""
    clock = Clock()
    it = python(tmp_path, SLEEPER, clock)
    it.watch()
    assert it.process is not None
    first = it.process.pid
    os.kill(first, signal.SIGKILL)
    until(lambda: not it.alive, "the death of the process")
    assert it.watch() == "died (killed by SIGKILL); started again, the 1st time"
    it.watch()
    assert it.process is None, "the pause is kept"
    clock.now += BACKOFF_S[0]
    it.watch()
    assert it.alive
    assert it.process is not None
    assert it.process.pid != first
    stop([([it], 2)], lambda: True)


def test_pauses_grow_until_the_process_is_steady(tmp_path: Path) -> None:
    """A process that dies at once is started with longer and longer pauses; one that had run long, at once."""
    clock = Clock()
    it = python(tmp_path, "raise SystemExit('the port is taken')", clock)
    pauses = []
    for _ in range(len(BACKOFF_S) + 1):
        it.watch()
        until(lambda: not it.alive, "the end of the process")
        assert "the port is taken" in (it.watch() or "")
        before = clock.now
        while it.process is None:
            clock.now += 0.1
            it.watch()
        pauses.append(clock.now - before)
    assert pauses == pytest.approx([*BACKOFF_S, BACKOFF_S[-1]], abs=0.11)
    until(lambda: not it.alive, "the end of the process")
    clock.now += STEADY_S + 1
    it.watch()
    clock.now += BACKOFF_S[0] + 0.01
    it.watch()
    assert it.process is not None
    stop([([it], 2)], lambda: True)


def test_a_source_that_ends_well_is_finished(tmp_path: Path) -> None:
    """Status 0 of a source is its end; nothing starts it again."""
    it = python(tmp_path, "print('done')", once=True)
    it.watch()
    until(lambda: it.watch() == "finished", "the end of the source")
    assert it.finished
    assert it.watch() is None
    assert it.process is None


def test_a_source_that_fails_twice_is_given_up(tmp_path: Path) -> None:
    """An input that cannot be read is not read for ever: the second failure is the last."""
    clock = Clock()
    it = python(tmp_path, "raise SystemExit('no such file')", clock, once=True)
    told: list[str] = []

    def given_up() -> bool:
        clock.now += 1
        told.extend(filter(None, [it.watch()]))
        return it.given_up

    until(given_up, "giving up")
    assert told[-1] == "failed twice: no such file"
    assert it.restarts == 1


def test_a_killed_source_is_not_given_up(tmp_path: Path) -> None:
    """Kill -9 says nothing about the input: the source starts from its beginning as often as it takes."""
    clock = Clock()
    it = python(tmp_path, SLEEPER, clock, once=True)
    for _ in range(3):
        it.watch()
        assert it.process is not None
        it.process.kill()
        until(lambda: not it.alive, "the death of the source")
        assert "killed by SIGKILL" in (it.watch() or "")
        clock.now += BACKOFF_S[-1]
    assert not it.given_up
    stop([([it], 2)], lambda: True)


def test_stop_ends_what_does_not_listen(tmp_path: Path) -> None:
    """Whoever ignores SIGTERM is killed when its time is over, with everything it started."""
    code = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {SLEEPER!r}]); " + STUBBORN
    it = python(tmp_path, code)
    it.watch()
    until(lambda: it.log.exists() and b"deaf" in it.log.read_bytes(), "the stubborn process")
    assert it.process is not None
    family = [psutil.Process(it.process.pid), *psutil.Process(it.process.pid).children()]
    assert len(family) == 2
    began = time.monotonic()
    stop([([it], 0.3)], lambda: False)
    assert time.monotonic() - began < 3
    _, left = psutil.wait_procs(family, timeout=5)
    assert not left
    assert it.watch() is None, "what was stopped is not started again"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux ends children with their parent")
def test_children_die_with_a_killed_parent(tmp_path: Path) -> None:
    """Kill -9 of the supervisor leaves no process behind."""
    code = (
        "import subprocess, sys, time; from crossfade.child import with_parent; "
        f"p = subprocess.Popen(with_parent([sys.executable, '-c', {SLEEPER!r}]), start_new_session=True); "
        "print(p.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait(5)
    parent.stdout.close()
    child.wait(5)


def test_a_program_that_is_missing_says_so(tmp_path: Path) -> None:
    """A command that does not exist ends with a sentence, not with a traceback."""
    answer = subprocess.run(
        with_parent(["/no/such/program"]), capture_output=True, text=True, timeout=20, check=False, cwd=tmp_path
    )
    assert "Traceback" not in answer.stderr
    assert "/no/such/program cannot be started: No such file or directory" in answer.stderr


@pytest.mark.parametrize(
    ("log", "words"),
    [
        ("", ""),
        ("first\nlast\n", "last"),
        (
            "java.lang.RuntimeException: no node id\n\tat kafka.Kafka.main(Kafka.scala)\n",
            "java.lang.RuntimeException: no node id",
        ),
        ('{"event": "port_in_use", "port": 9101, "level": "error", "stage": "worker"}\n', "port in use: 9101"),
        ("\x1b[31mred\x1b[0m\n", "red"),
        ('\x08\x1b[?25h{"event": "it_ends", "problem": "no room"}\n', "it ends: no room"),
    ],
)
def test_last_words_are_readable(tmp_path: Path, log: str, words: str) -> None:
    """The reason of a death is the last line of the log, whether it is text, JSON or a stack."""
    file = tmp_path / "log"
    file.write_text(log)
    assert last_words(file) == words
