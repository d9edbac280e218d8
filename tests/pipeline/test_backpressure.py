"""The warehouse goes away: the sink waits and says so, holds nothing in memory, and loses nothing."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.error
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from schemas.settings import Settings
from sinks.ledger import Ledger, balance
from tests.pipeline.test_sink import fill, health, own, sink
from warehouse.runner import WarehouseError, reader

__all__ = ["own"]

GROWTH_MAX_BYTES = 64 << 20


def waits(settings: Settings) -> str:
    """What the sink says that it waits for; empty while it does not answer or wait."""
    try:
        return str(health(settings).get("waiting_for") or "")
    except urllib.error.HTTPError as unwell:
        told: dict[str, Any] = json.load(unwell)
        assert told["ok"] is False
        return str(told["waiting_for"])


def until(condition: Callable[[], bool], what: str, timeout_s: float = 90) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, f"{what} did not happen within {timeout_s:.0f} s"
        time.sleep(0.2)


def is_loaded(settings: Settings, right: Ledger) -> bool:
    with contextlib.suppress(WarehouseError):
        return settings.duckdb_file.exists() and balance(settings) == right
    return False


@contextlib.contextmanager
def holding(file: Path) -> Iterator[None]:
    """Another process that holds the warehouse file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    program = "import duckdb, sys, time; c = duckdb.connect(sys.argv[1]); print('held', flush=True); time.sleep(300)"
    with subprocess.Popen([sys.executable, "-c", program, str(file)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        try:
            yield
        finally:
            process.kill()


def test_a_locked_warehouse_is_waited_for(own: Settings) -> None:
    """Somebody has the file open in a shell: the sink stays up, says what it waits for, and then loads everything."""
    with holding(own.duckdb_file), sink(own) as process:
        until(lambda: waits(own).startswith("waiting for warehouse: Another process holds"), "waiting")
        _, right = fill(own, seed=5)
        assert process.poll() is None
        assert waits(own)
    with sink(own) as process:
        until(lambda: is_loaded(own, right), "loading")
        assert not waits(own)
        assert process.poll() is None


@pytest.mark.skipif(os.geteuid() != 0, reason="a small disk is mounted")
def test_a_full_disk_is_waited_for(own: Settings) -> None:
    """Nothing is lost or twice once there is room again, and memory stays flat while Kafka fills."""
    folder = own.duckdb_file.parent
    folder.mkdir(parents=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)], check=False)
    if mounted.returncode:
        pytest.skip("nothing can be mounted here")
    try:
        _, first = fill(own, seed=6)
        with sink(own) as process:
            until(lambda: "No space left" in waits(own), "a full disk")
            before = psutil.Process(process.pid).memory_info().rss
            for seed in (7, 8):
                fill(own, seed)
            assert process.poll() is None
            until(lambda: "No space left" in waits(own), "a disk that is still full")
            assert psutil.Process(process.pid).memory_info().rss < before + GROWTH_MAX_BYTES
            subprocess.run(["mount", "-o", "remount,size=500m", str(folder)], check=True)
            until(lambda: is_settled(own, 3 * (first.accepted - 10)), "loading")
            assert process.poll() is None
            source = reader(own)
            (row,) = source.query("SELECT COUNT(*) AS n, COUNT(DISTINCT event_id) AS ids FROM events").rows
            assert row["n"] == row["ids"]
            assert source.query("SELECT SUM(difference) AS d FROM ledger_hours").rows == [{"d": 0}]
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)


def is_settled(settings: Settings, accepted: int) -> bool:
    with contextlib.suppress(WarehouseError):
        found = balance(settings)
        return found.settled and found.accepted >= accepted
    return False
