"""Keeps processes running: starts them again when they die, and leaves none behind."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from crossfade.child import with_parent

Clock = Callable[[], float]

BACKOFF_S = (0.2, 0.5, 1.0, 2.0, 5.0)
STEADY_S = 20.0
"""A process that ran for so long is started again at once when it dies."""

LOG_MAX_BYTES = 16 << 20
_TAIL_BYTES = 8192
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f]")
_SURROUNDINGS = {"event", "stage", "level", "timestamp", "exception", "logger"}


def last_words(log: Path) -> str:
    """The last line of a log that says something, as text; empty when there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
            text = _ESCAPES.sub("", file.read().decode(errors="replace"))
    except OSError:
        return ""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line[0].isspace()]
    return _readable(lines[-1])[:400] if lines else ""


def _readable(line: str) -> str:
    """A line of JSON as the sentence it holds."""
    try:
        entry = json.loads(line)
    except ValueError:
        return line
    if not isinstance(entry, dict) or "event" not in entry:
        return line
    more = [str(value) for name, value in entry.items() if name not in _SURROUNDINGS]
    return ": ".join([str(entry["event"]).replace("_", " "), *([", ".join(more)] if more else [])])


def how_it_ended(code: int) -> str:
    """An exit status in words."""
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"killed by {signal.Signals(-code).name}"
    return f"exit status {code}"


@dataclass
class Supervised:
    """One process, and what became of it. `start` is to be called from the main thread (crossfade.child says why).

    `once`: a source; it is not started again after it ended with status 0, nor after two failures of its own.
    """

    name: str
    command: Sequence[str]
    log: Path
    cwd: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    output: Path | None = None
    once: bool = False
    after_s: float = 0.0
    clock: Clock = time.monotonic

    process: subprocess.Popen[bytes] | None = None
    restarts: int = 0
    failures: int = 0
    reason: str = ""
    finished: bool = False
    given_up: bool = False
    stopping: bool = False
    _started: float = 0.0
    _next_start: float = 0.0
    _quick_deaths: int = 0

    def __post_init__(self) -> None:
        self._next_start = self.clock() + self.after_s

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self.process is not None and self.process.poll() is None

    @property
    def runs_for_s(self) -> float:
        """Seconds since its last start."""
        return self.clock() - self._started

    def start(self) -> None:
        """Starts the process in a session of its own, its messages appended to its log."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        if self.log.exists() and self.log.stat().st_size > LOG_MAX_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))
        with contextlib.ExitStack() as files:
            log = files.enter_context(self.log.open("ab"))
            out = files.enter_context(self.output.open("wb")) if self.output else log
            self.process = subprocess.Popen(
                with_parent(self.command),
                cwd=self.cwd,
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
                start_new_session=True,
            )
        self._started = self.clock()

    def watch(self) -> str | None:
        """Looks after the process; returns what a person should know, None when there is no news."""
        if self.finished or self.given_up or self.stopping:
            return None
        if self.process is None:
            if self.clock() >= self._next_start:
                self.start()
            return None
        code = self.process.poll()
        if code is None:
            return None
        self.signal(signal.SIGKILL)  # what it may have started itself
        self.process = None
        if self.once and code == 0:
            self.finished = True
            return "finished"
        self._quick_deaths = 0 if self.runs_for_s > STEADY_S else self._quick_deaths + 1
        words = last_words(self.log)
        self.reason = how_it_ended(code) if code < 0 or not words else words
        if self.once and code > 0:
            self.failures += 1
            if self.failures > 1:
                self.given_up = True
                return f"failed twice: {self.reason}"
        self.restarts += 1
        delay = BACKOFF_S[min(max(self._quick_deaths - 1, 0), len(BACKOFF_S) - 1)]
        self._next_start = self.clock() + delay
        return f"died ({self.reason}); started again, the {_nth(self.restarts)} time"

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to the process and everything that it started."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, number)


def _nth(number: int) -> str:
    suffix = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{suffix}"


def stop(groups: Iterable[tuple[Sequence[Supervised], float]], hurry: Callable[[], bool]) -> None:
    """Stops group after group: SIGTERM, its time in seconds, SIGKILL. With `hurry` it is SIGKILL at once."""
    for group, seconds in groups:
        for one in group:
            one.stopping = True
            one.signal(signal.SIGTERM)
        end = time.monotonic() + seconds
        while any(one.alive for one in group) and time.monotonic() < end and not hurry():
            time.sleep(0.02)
        for one in group:
            one.signal(signal.SIGKILL)
            if one.process is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    one.process.wait(1)
