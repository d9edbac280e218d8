"""The data directory: one holder, a key for its owner only, and an emptying that cannot go wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from crossfade import home
from crossfade.home import HomeError
from schemas.settings import CHECKOUT, Settings


def test_the_second_run_is_told_who_holds_the_directory(tmp_path: Path) -> None:
    """A second start names the process that runs, and how to stop it."""
    code = (
        "import sys, time, pathlib; from crossfade import home\n"
        "with home.held(pathlib.Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        assert home.is_held(tmp_path)
        with pytest.raises(HomeError, match=f"process {other.pid}"), home.held(tmp_path):
            pass
    finally:
        other.kill()
        other.communicate()
    assert not home.is_held(tmp_path)
    with home.held(tmp_path):
        assert home.is_held(tmp_path)


def test_leftovers_of_a_killed_run_are_ended(tmp_path: Path) -> None:
    """Where the system does not end children with their parent, the next start does."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    home.note(tmp_path, [child.pid])
    with home.held(tmp_path):
        child.wait(5)


def test_a_stranger_with_a_used_pid_is_spared(tmp_path: Path) -> None:
    """A pid that now belongs to another program is recognised by its start time."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        home.note(tmp_path, [child.pid])
        note = tmp_path / home.LOCK_FILE
        created = psutil.Process(child.pid).create_time()
        note.write_text(note.read_text().replace(str(created), str(created - 100)))
        with home.held(tmp_path):
            assert child.poll() is None
    finally:
        child.kill()
        child.wait(5)


def test_a_directory_that_cannot_be_written_is_named() -> None:
    """No traceback: the message says which directory, and which setting moves it."""
    with pytest.raises(HomeError, match="CROSSFADE_DATA_DIR"), home.held(Path("/proc/crossfade")):
        pass


def test_empty_keeps_the_lock_only(tmp_path: Path) -> None:
    """--fresh removes files, folders and links, but not what links point to."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "mine").touch()
    data = tmp_path / "data"
    with home.held(data):
        (data / "kafka" / "log").mkdir(parents=True)
        (data / "dev-api-key").touch()
        (data / "link").symlink_to(outside)
        home.empty(data)
        assert [entry.name for entry in data.iterdir()] == [home.LOCK_FILE]
    assert (outside / "mine").exists()


@pytest.mark.parametrize("place", [Path.home(), CHECKOUT, CHECKOUT.parent, Path("/")])
def test_empty_refuses_a_home_or_a_checkout(place: Path) -> None:
    """A data directory set by mistake to something precious is not emptied."""
    with pytest.raises(HomeError, match="CROSSFADE_DATA_DIR"):
        home.empty(place)


def test_the_development_key_is_made_once_and_for_its_owner(tmp_path: Path) -> None:
    """The key is random, stays over restarts, and nobody else on the machine can read it."""
    file = tmp_path / "dev-api-key"
    key = home.development_key(file)
    assert key.startswith("cf_dev_")
    assert len(key) > 30
    assert home.development_key(file) == key
    assert file.stat().st_mode & 0o777 == 0o600


def test_endpoints_are_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a run writes, every other command reads as its settings."""
    monkeypatch.delenv("KAFKA_BOOTSTRAP_SERVERS", raising=False)
    monkeypatch.delenv("CROSSFADE_QUACK_PORT", raising=False)
    home.write_endpoints(tmp_path / "endpoints.json", {"kafka_bootstrap_servers": "127.0.0.1:7", "quack_port": 8})
    found = Settings(data_dir=tmp_path)
    assert (found.kafka_bootstrap_servers, found.quack_port) == ("127.0.0.1:7", 8)
