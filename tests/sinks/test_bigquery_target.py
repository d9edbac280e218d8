"""The BigQuery target on an emulator: a step that was cut off anywhere is completed, with nothing twice."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import polars as pl
import pyarrow as pa
import pytest
from google.api_core.exceptions import ServiceUnavailable

from schemas import topics
from schemas.settings import Settings
from schemas.tables import TABLES, table
from sinks.arrow import REQUEST_MAX_BYTES, arrow_schema, record_batches
from sinks.batch import DAY_MS, Batcher
from sinks.bigquery_target import BigQueryTarget
from sinks.ledger import counts
from sinks.records import Record
from sinks.seen import hashes
from sinks.target import Progress, SinkError, key_columns
from tests.sinks.conftest import free_port
from tests.sinks.test_batch import CODECS, HORIZONS, NOW_MS, WINDOWS, event, letter, prepare
from warehouse.runner import WarehouseError, reader

PLACE = (topics.EVENTS, 0)
PACKAGES = ["local-bigquery==0.3.2", "duckdb==1.5.5", "duckdb-extension-ducklake==1.5.5"]


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)


def find_python_313() -> str | None:
    """Python 3.13 of pyenv (whose command on the path may be a shim that does not run), or on the path."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found = sorted(str(program) for program in pyenv.glob("versions/3.13*/bin/python"))
    return next(iter(found), shutil.which("python3.13"))


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """An emulator in an own environment of Python 3.13."""
    uv, python_313 = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}"), find_python_313()
    home = tmp_path_factory.mktemp("bigquery")
    if uv is None:
        pytest.skip("the emulator of BigQuery is installed by uv, which is not here")
    if python_313 is None or run(uv, "venv", "--no-python-downloads", "--python", python_313, home / "venv").returncode:
        pytest.skip("the emulator of BigQuery (local-bigquery) needs Python 3.13, which is not here")
    python = home / "venv" / "bin" / "python"
    if (done := run(uv, "pip", "install", "--python", python, *PACKAGES)).returncode:
        pytest.skip(f"the emulator of BigQuery cannot be installed: {done.stderr.strip().splitlines()[-1]}")
    port, grpc_port = free_port(), free_port()
    script = Path(__file__).parent / "bigquery_emulator.py"
    with (home / "log").open("wb") as log:
        process = subprocess.Popen([python, script, home, str(port), str(grpc_port)], stdout=log, stderr=log)
    try:
        end = time.monotonic() + 60
        while not answers(port):
            assert process.poll() is None, (home / "log").read_text()
            assert time.monotonic() < end
            time.sleep(0.1)
        grpc.channel_ready_future(grpc.insecure_channel(f"127.0.0.1:{grpc_port}")).result(30)
        yield Settings(
            data_dir=home,
            warehouse="bigquery",
            bigquery_project="test",
            bigquery_endpoint=f"http://127.0.0.1:{port}",
            bigquery_grpc_endpoint=f"127.0.0.1:{grpc_port}",
        )
    finally:
        process.kill()
        process.wait(10)


def answers(port: int) -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/bigquery/v2/projects", timeout=2)
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def batcher_of(target: BigQueryTarget) -> Batcher:
    """What the sink does at its start."""
    batcher = Batcher(CODECS, WINDOWS, target.held, HORIZONS)
    for each in (table("events"), table("dead_letters")):
        for rows in target.keys(each, None, {}):
            batcher.seen[each.name].add(hashes(rows, key_columns(each)), NOW_MS // DAY_MS)
    batcher.orphans = target.orphans(target.progress())
    return batcher


def records(*values: bytes) -> list[Record]:
    return [Record(offset, 9_000, b"u", value) for offset, value in enumerate(values)]


LOG = {
    PLACE: records(*(event(str(n % 7), 5, received_at=1000) for n in range(10))),
    (topics.DEAD_LETTERS, 0): records(letter("a"), letter("b"), letter("a")),
}


def test_an_uncertain_answer_is_asked_again(emulator: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """When BigQuery does not answer, the same request is sent again, a few times, and then the sink says so."""
    waited: list[float] = []
    target = BigQueryTarget(emulator, sleep=waited.append)
    append, failures = target._writer.append_rows, 2

    def unsteady(*args: Any, **named: Any) -> Any:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            raise ServiceUnavailable("gone")
        return append(*args, **named)

    monkeypatch.setattr(target._writer, "append_rows", unsteady)
    before = len(target.reader.query("SELECT sequence FROM _journal").rows)
    target._write_journal()
    assert len(target.reader.query("SELECT sequence FROM _journal").rows) == before + 1
    assert waited == [0.25, 0.5]
    failures = 99
    with pytest.raises(SinkError, match="cannot be reached"):
        target._write_journal()
    target.close()


@pytest.mark.parametrize("cut", ["after one table", "before the journal"])
def test_a_cut_step_is_completed(emulator: Settings, cut: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever a sink dies within a step, the next one completes it with other batch borders, each row once."""
    settings = emulator.model_copy(update={"dataset": f"cut_{cut.replace(' ', '_')}"})
    target = BigQueryTarget(settings, sleep=lambda _: None)
    assert target.progress() == {}
    start = {place: Progress(0, 0) for place in LOG}
    step, _ = prepare(batcher_of(target), LOG, start, NOW_MS)
    send, sent = target._send, 0

    def cut_off(request: Any) -> None:
        nonlocal sent
        if sent == {"after one table": 1, "before the journal": 2}[cut]:
            raise SinkError("killed")
        sent += 1
        send(request)
        send(request)  # what a sink does that did not hear the answer

    with monkeypatch.context() as patched:
        patched.setattr(target, "_send", cut_off)
        with pytest.raises(SinkError, match="killed"):
            target.commit(step)

    again = BigQueryTarget(settings, sleep=lambda _: None)
    with pytest.raises(SinkError, match="refused"):
        target._append(target._streams["events"], step.rows["events"])  # the old session is shut out
    batcher, progress = batcher_of(again), {**start, **again.progress()}
    for size in (4, 3, 3):
        taken = {place: log[progress[place].next_offset :][:size] for place, log in LOG.items()}
        taken = {place: log for place, log in taken.items() if log}
        if taken:
            next_step, _ = prepare(batcher, taken, progress, NOW_MS)
            again.commit(next_step)
            progress.update(next_step.progress)
            batcher.done(next_step, NOW_MS)
    found = counts(again.reader)
    assert (found.loaded, found.door_letters, found.deduplicated, found.door_accepted) == (7, 2, 4, 3)
    assert found.progress == progress
    ids = [row["event_id"] for row in again.reader.query("SELECT event_id FROM events ORDER BY event_id").rows]
    assert ids == [str(n) for n in range(7)]
    balance = "SELECT SUM(accepted) AS a, SUM(difference) AS d FROM ledger_balance"
    assert again.reader.query(balance).rows == [{"a": 13, "d": 0}]
    again.close()


def test_the_reader_asks_bigquery(emulator: Settings) -> None:
    """Questions go to BigQuery as they are, with parameters and plain errors, and only questions."""
    target = BigQueryTarget(emulator, sleep=lambda _: None)
    source = reader(emulator)
    since = datetime(2026, 1, 1, tzinfo=UTC)
    rows = source.query("SELECT COUNT(*) AS n FROM events WHERE timestamp > @since", {"since": since}).rows
    assert rows == [{"n": 0}]
    with pytest.raises(WarehouseError, match="single SELECT"):
        source.query("DROP TABLE events")
    with pytest.raises(WarehouseError):
        source.query("SELECT nope FROM events")
    target.close()


def test_a_project_is_asked_for(tmp_path: Path) -> None:
    """Without a project there is one plain message."""
    with pytest.raises(SinkError, match="CROSSFADE_BIGQUERY_PROJECT"):
        BigQueryTarget(Settings(data_dir=tmp_path, warehouse="bigquery", bigquery_project=""))


def test_every_table_has_an_arrow_schema() -> None:
    """Rows of every table fit the Arrow types that BigQuery takes for its columns."""
    for each in TABLES:
        if each.topic is not None:
            rows = (
                CODECS[each.topic]
                .empty()
                .with_columns(
                    pl.lit(0).alias(c.name) if c.type == "INT64" else pl.lit(False).alias(c.name) for c in each.extra
                )
            )
            rows = rows.with_columns(pl.col(pl.Categorical).cast(pl.String))
            assert list(record_batches(rows, arrow_schema(each))) == []
    insight = arrow_schema(table("track_insights"))
    assert insight.field("similar_tracks").type == pa.list_(pa.string())
    assert insight.field("mood_analysis").type == pa.struct(
        [("label", pa.string()), ("valence", pa.float64()), ("energy", pa.float64())]
    )


def test_requests_stay_below_the_limit() -> None:
    """Rows are cut into batches that fit, in order; a row that can never fit is named."""
    schema = pa.schema([("payload", pa.binary())])
    rows = pl.DataFrame({"payload": [bytes([n]) * (3 << 20) for n in range(7)]})
    batches = list(record_batches(rows, schema))
    assert all(batch.serialize().size <= REQUEST_MAX_BYTES for batch in batches)
    assert [value.as_py()[0] for batch in batches for value in batch["payload"]] == list(range(7))
    with pytest.raises(ValueError, match="one row has"):
        list(record_batches(pl.DataFrame({"payload": [b"x" * (9 << 20)]}), schema))
