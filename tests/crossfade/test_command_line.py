"""The command line, as a program: what is on stdout, what is on stderr, and the status."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def crossfade(data_dir: Path, *arguments: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("CROSSFADE_", "KAFKA_"))}
    return subprocess.run(
        [sys.executable, "-m", "crossfade", *arguments],
        env={**inherited, "CROSSFADE_DATA_DIR": str(data_dir), **environment},
        cwd=ROOT,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    "arguments", [["--help"], ["run", "--help"], ["dead-letters", "--help"], ["simulate", "--help"]]
)
def test_help_needs_nothing(tmp_path: Path, arguments: list[str]) -> None:
    """Help is there without Kafka, warehouse or data directory."""
    answer = crossfade(tmp_path / "none", *arguments)
    assert answer.returncode == 0, answer.stderr
    assert "usage" in answer.stdout.lower()
    assert not (tmp_path / "none").exists()


def test_help_is_fast(tmp_path: Path) -> None:
    """A command imports what it needs and no more: the heavy libraries stay out of the others' way."""
    code = (
        "import sys; import crossfade.__main__; print([m for m in ('polars', 'duckdb', 'faust') if m in sys.modules])"
    )
    began = time.monotonic()
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert answer.stdout.strip() == "[]", time.monotonic() - began


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["query", "SELECT 1", "--format", "xml"], "There is no format xml: it is table, json or csv."),
        (["topics", "apply"], "No Kafka is known: start the pipeline with ./start_local.sh"),
        (["run", "--scenario", "napster"], "There is no scenario napster"),
    ],
)
def test_a_problem_is_one_plain_line(tmp_path: Path, arguments: list[str], message: str) -> None:
    """Status 1, nothing on stdout, one line on stderr, no traceback."""
    answer = crossfade(tmp_path, *arguments)
    assert answer.returncode == 1
    assert answer.stdout == ""
    assert message in answer.stderr
    assert len(answer.stderr.strip().splitlines()) == 1


def test_a_wrong_setting_is_named(tmp_path: Path) -> None:
    """The message names the setting and the rule."""
    answer = crossfade(tmp_path, "status", CROSSFADE_PARTITIONS="many")
    assert answer.returncode == 1
    assert "setting partitions: Input should be a valid integer" in answer.stderr


def test_status_tells_of_every_stage(tmp_path: Path) -> None:
    """Without a pipeline every stage is down, as JSON and nothing else, and the status says so."""
    ports = {f"CROSSFADE_{name}_PORT": "1" for name in ("WORKER_METRICS", "SINK_METRICS", "ENRICHMENT_METRICS", "WEB")}
    answer = crossfade(tmp_path, "status", "--format", "json", CROSSFADE_COLLECTOR_PORT="1", **ports)
    rows = json.loads(answer.stdout)
    assert {row["state"] for row in rows} == {"down"}
    assert {"kafka", "worker", "sinks", "collector", "web", "enrichment"} == {row["stage"] for row in rows}
    assert answer.returncode == 1


def test_endpoints_of_a_killed_run_are_forgotten(tmp_path: Path) -> None:
    """A file that names a Kafka which died with its run does not send commands there."""
    (tmp_path / "endpoints.json").write_text('{"kafka_bootstrap_servers": "127.0.0.1:1"}')
    answer = crossfade(tmp_path, "topics", "apply")
    assert "No Kafka is known" in answer.stderr
    assert not (tmp_path / "endpoints.json").exists()


def test_doctor_says_what_is_there(tmp_path: Path) -> None:
    """Each finding has a state, and what is missing comes with advice."""
    answer = crossfade(tmp_path, "doctor", "--format", "json", CROSSFADE_CACHE_DIR=str(tmp_path))
    findings = {row["what"]: row for row in json.loads(answer.stdout)}
    assert findings["Python"]["state"] == "ok"
    assert findings["Java"]["state"] == "ok"
    assert all(row["advice"] for row in findings.values() if row["state"] == "missing")


def test_key_is_printed_alone(tmp_path: Path) -> None:
    """`$(crossfade key)` can stand in a command."""
    first, second = crossfade(tmp_path, "key"), crossfade(tmp_path, "key")
    assert first.stdout == second.stdout
    assert first.stdout.startswith("cf_dev_")


def test_keys_come_and_go(tmp_path: Path) -> None:
    """A key is printed alone and once, listed without itself, and revoked by its id; mistakes are one plain line."""
    made = crossfade(tmp_path, "keys", "create", "radio", "--tenant", "fm", "--scope", "test", "--rate", "7")
    key = made.stdout.strip()
    assert key.startswith("cf_test_")
    (row,) = json.loads(crossfade(tmp_path, "keys", "list", "--format", "json").stdout)
    assert (row["name"], row["tenant"], row["scope"], row["events_per_s"]) == ("radio", "fm", "test", 7)
    assert key.endswith(row["ends_with"])
    assert key not in json.dumps(row)
    assert "revoked" in crossfade(tmp_path, "keys", "revoke", row["id"]).stdout
    assert json.loads(crossfade(tmp_path, "keys", "list", "--format", "json").stdout) == []
    for wrong in (("revoke", row["id"]), ("create", "x", "--scope", "all"), ("create", "x", "--tenant", "../up")):
        answer = crossfade(tmp_path, "keys", *wrong)
        assert answer.returncode == 1
        assert answer.stderr.startswith("crossfade: ")
        assert answer.stderr.count("\n") == 1


def test_a_reader_that_goes_away_is_no_problem(tmp_path: Path) -> None:
    """`crossfade compose | head -1` ends without a traceback."""
    command = f"'{sys.executable}' -m crossfade compose | head -n 1"
    answer = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert answer.stdout.startswith("#")
    assert answer.stderr == ""
