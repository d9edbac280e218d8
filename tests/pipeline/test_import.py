"""`crossfade import` into a real Kafka and a real warehouse."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest

from schemas.settings import HOME, Settings
from sinks.ledger import Ledger, balance
from tests.pipeline.test_sink import sink
from tests.producers.test_importers_command import ROW
from tests.sinks.conftest import free_port
from warehouse.runner import Reader, WarehouseError, reader

SCROBBLES = "Artist,Track,Album,Time\nPaper Lakes,Lanterns,Harbor,1700000000\nPaper Lakes,Lanterns,Harbor,soon\n"


@pytest.fixture
def own(own_kafka: Settings) -> Settings:
    return own_kafka.model_copy(update={"quack_port": free_port(), "sink_metrics_port": free_port()})


def import_again(settings: Settings, file: Path) -> dict[str, Any]:
    """What the command tells as JSON."""
    env = {
        **os.environ,
        "KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
        "CROSSFADE_DATA_DIR": str(settings.data_dir),
    }
    command = [sys.executable, "-m", "crossfade", "import", str(file), "--user", "ann", "--format", "json"]
    done = subprocess.run(command, check=False, cwd=HOME, env=env, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr.decode()
    summary: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return summary


def loaded(settings: Settings, source: Reader, deduplicated: int) -> list[list[dict[str, Any]]]:
    """Events and dead letters in the warehouse, once so many were recognised as known."""
    end = time.monotonic() + 60
    found: Ledger | None = None
    while time.monotonic() < end:
        try:
            found = balance(settings, source)
            if found.in_flight == 0 and found.deduplicated == deduplicated:
                break
        except WarehouseError:
            pass
        time.sleep(0.1)
    assert found is not None
    assert (found.in_flight, found.deduplicated) == (0, deduplicated)
    tables = (("events", "event_id"), ("dead_letters", "dead_letter_id"))
    return [source.query(f"SELECT * FROM {table} ORDER BY {key}").rows for table, key in tables]


def test_a_second_import_changes_nothing(own: Settings, tmp_path: Path) -> None:
    """Out of a zip: listens are events, what is broken is a dead letter; the second time, no row is added."""
    path = tmp_path / "my data.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        rows = [{**ROW, "ms_played": 40_000 + n} for n in range(500)]
        archive.writestr("a/Streaming_History_Audio_2023.json", json.dumps([*rows, rows[0], {**ROW, "ms_played": 0}]))
        archive.writestr("librefm.csv", SCROBBLES)
    with sink(own):
        source = reader(own)
        first = import_again(own, path)
        assert (first["imported"], first["duplicates"], first["rows"]) == (501, 1, 504)
        events, letters = loaded(own, source, 0)
        assert (len(events), len(letters)) == (1_001, 1)
        assert {row["source"] for row in events} == {"import"}
        assert len({row["user_id"] for row in events}) == 1
        assert "ann" not in {row["user_id"] for row in events}
        assert letters[0]["reason"] == "bad_timestamp"
        assert import_again(own, path)["imported"] == 501
        assert loaded(own, source, 1_002) == [events, letters]
