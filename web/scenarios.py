"""Simulated platforms as child processes: started and stopped from the page, and never left behind."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.settings import HOME, Settings

SCENARIOS: dict[str, str] = {
    "spotify": "Spotify",
    "apple_music": "Apple Music",
    "youtube_music": "YouTube Music",
    "custom": "Custom",
}

STOP_WITHIN_S = 3.0

Command = Callable[[str], Sequence[str]]

_BOUND_TO_PARENT = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGTERM, 0, 0, 0)
if os.getppid() != int(sys.argv[1]):
    sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""
"""On Linux the kernel stops the simulator (PR_SET_PDEATHSIG) when the page goes, whatever ends it."""


def simulator(name: str) -> Sequence[str]:
    """The simulator of a scenario, live; another seed each time, so that no event is told twice."""
    return [sys.executable, "-m", "producers.simulator", "--scenario", name, "--seed", str(int(time.time()))]


@dataclass
class _Run:
    process: subprocess.Popen[bytes]
    started_at: float
    log: Path
    stopping: bool = False


class Scenarios:
    """Up to one simulator per scenario. To be used from the main thread, to whose life the children are bound."""

    def __init__(self, settings: Settings, command: Command = simulator) -> None:
        self._logs = settings.data_dir / "logs"
        self._command = command
        self._runs: dict[str, _Run] = {}

    def states(self) -> list[dict[str, Any]]:
        """Every scenario: state (running, stopping, stopped or failed), since when (Unix seconds), and a message."""
        return [{"name": name, "title": title, **self._state(name)} for name, title in SCENARIOS.items()]

    def _state(self, name: str) -> dict[str, Any]:
        run = self._runs.get(name)
        if run is None:
            return {"state": "stopped", "since": None, "message": None}
        status = run.process.poll()
        if status is None:
            return {"state": "stopping" if run.stopping else "running", "since": run.started_at, "message": None}
        if status == 0 or run.stopping:
            return {"state": "stopped", "since": None, "message": None}
        return {"state": "failed", "since": None, "message": last_words(run.log) or f"It ended with status {status}."}

    def start(self, name: str) -> None:
        """Starts it unless it runs; raises KeyError for an unknown name and OSError when it cannot be started."""
        if name not in SCENARIOS:
            raise KeyError(name)
        run = self._runs.get(name)
        if run is not None and run.process.poll() is None:
            return
        self._logs.mkdir(parents=True, exist_ok=True)
        log = self._logs / f"scenario-{name}.log"
        bound = [sys.executable, "-I", "-S", "-c", _BOUND_TO_PARENT, str(os.getpid()), *self._command(name)]
        env = {**os.environ, "CROSSFADE_SIMULATOR_METRICS_PORT": "0"}  # several at once: any free port
        with log.open("wb") as out:
            process = subprocess.Popen(bound, cwd=HOME, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        self._runs[name] = _Run(process, time.time(), log)

    async def stop(self, name: str) -> None:
        """Stops it, with force after STOP_WITHIN_S; raises KeyError for an unknown name."""
        if name not in SCENARIOS:
            raise KeyError(name)
        run = self._runs.get(name)
        if run is None or run.process.poll() is not None:
            return
        run.stopping = True
        run.process.terminate()
        end = time.monotonic() + STOP_WITHIN_S
        while run.process.poll() is None and time.monotonic() < end:
            await asyncio.sleep(0.02)
        if run.process.poll() is None:
            run.process.kill()
            run.process.wait()

    async def stop_all(self) -> None:
        """Stops all, side by side."""
        await asyncio.gather(*(self.stop(name) for name in SCENARIOS))


def last_words(log: Path) -> str | None:
    """The last line of a log, as plain text."""
    with contextlib.suppress(OSError):
        lines = log.read_text(errors="replace").strip().splitlines()
        if lines:
            with contextlib.suppress(ValueError, AttributeError):
                return str(json.loads(lines[-1]).get("event") or lines[-1])[:300]
            return lines[-1][:300]
    return None
