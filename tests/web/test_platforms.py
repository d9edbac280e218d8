"""Simulated platforms as child processes that never stay behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.web.conftest import settings_in
from web.scenarios import Scenarios, last_words, simulator

SLEEPS = (sys.executable, "-c", "import time; time.sleep(60)")
STUBBORN = (
    sys.executable,
    "-c",
    "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True); time.sleep(60)",
)
FAILS = (sys.executable, "-c", 'print(\'{"event": "Kafka is away", "level": "error"}\'); raise SystemExit(1)')


def until(holds: Callable[[], bool]) -> None:
    """Waits for at most 10 s."""
    end = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def state(scenarios: Scenarios, name: str) -> str:
    return str({one["name"]: one["state"] for one in scenarios.states()}[name])


def test_a_platform_is_started_once_and_stopped(tmp_path: Path) -> None:
    """A second click on start changes nothing; stop ends the process."""
    scenarios = Scenarios(settings_in(tmp_path), lambda _: SLEEPS)
    others = set(psutil.Process().children())  # a broker that other tests of the session share
    scenarios.start("spotify")
    scenarios.start("spotify")
    children = set(psutil.Process().children()) - others
    assert len(children) == 1
    assert state(scenarios, "spotify") == "running"
    assert state(scenarios, "custom") == "stopped"
    asyncio.run(scenarios.stop_all())
    assert state(scenarios, "spotify") == "stopped"
    assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children)


def test_a_platform_that_does_not_listen_is_ended_by_force(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopping is bounded in time."""
    monkeypatch.setattr("web.scenarios.STOP_WITHIN_S", 0.2)
    scenarios = Scenarios(settings_in(tmp_path), lambda _: STUBBORN)
    scenarios.start("spotify")
    until(lambda: (tmp_path / "logs" / "scenario-spotify.log").read_text() != "")
    asyncio.run(scenarios.stop("spotify"))
    assert state(scenarios, "spotify") == "stopped"


def test_a_platform_that_fails_says_why(tmp_path: Path) -> None:
    """The last line of its log is shown, as text."""
    scenarios = Scenarios(settings_in(tmp_path), lambda _: FAILS)
    scenarios.start("spotify")
    until(lambda: state(scenarios, "spotify") == "failed")
    assert next(one["message"] for one in scenarios.states() if one["name"] == "spotify") == "Kafka is away"


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_a_platform_goes_with_the_page_even_after_kill_9(tmp_path: Path) -> None:
    """No simulator survives the process that started it."""
    page = (
        "import sys, time; from pathlib import Path; from schemas.settings import Settings;"
        "from web.scenarios import Scenarios; s = Scenarios(Settings(data_dir=Path(sys.argv[1])),"
        "lambda _: [sys.executable, '-c', 'import os, time; print(os.getpid(), flush=True); time.sleep(60)']);"
        "s.start('spotify'); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", page, str(tmp_path)], cwd=Path(__file__).parents[2])
    log = tmp_path / "logs" / "scenario-spotify.log"
    try:
        until(lambda: log.exists() and log.read_text().strip() != "")
        child = int(log.read_text())
        assert psutil.pid_exists(child)
    finally:
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait(5)
    until(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE)


def test_the_simulator_gets_another_seed_each_time() -> None:
    """So that a second start tells new events."""
    command = list(simulator("spotify"))
    assert command[1:5] == ["-m", "producers.simulator", "--scenario", "spotify"]
    assert int(command[command.index("--seed") + 1]) > 0


def test_last_words_of_no_log(tmp_path: Path) -> None:
    """A missing or empty log says nothing."""
    assert last_words(tmp_path / "none") is None
    (tmp_path / "plain").write_text("one\ntwo\n")
    assert last_words(tmp_path / "plain") == "two"
