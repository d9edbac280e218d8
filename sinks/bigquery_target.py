"""BigQuery as the sink's warehouse: Storage Write API with streams and offsets of our own, and a journal of steps.

Exactly once, also through kill -9, although BigQuery commits each table by itself:

1. The rows of a step are appended to their tables, each to a COMMITTED stream of this process at an explicit offset. A
   repeated append is answered ALREADY_EXISTS, so a lost answer doubles nothing.
2. Then one row is appended to `_journal`: the progress and the ledger entries of the step. That row is the commit; the
   views `ledger` and `_progress` show the journal. Between 1 and 2, the rows are visible and the ledger is behind.
3. A new process first finalizes the streams of the one before: what was still on its way is refused from then on, and
   a sink that lives on by mistake is stopped by it. Then it asks for rows that are in the tables beyond the journal's
   progress (`orphans`). Their records are read again from Kafka and recognised by partition and offset: they are
   counted as loaded, and not written again.

Void when two sinks start in the same second, when rows are written to the tables by others, or when Kafka's retention
is shorter than a stop of the sink. A hit in the set of known ids is believed, because asking BigQuery for each batch
would cost more than it is worth: a new event is taken for a known one with a chance of 5e-11 at a thousand million ids.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import grpc
import polars as pl
import pyarrow as pa
import structlog
from google.api_core.client_options import ClientOptions
from google.api_core.exceptions import (
    Aborted,
    AlreadyExists,
    DeadlineExceeded,
    GoogleAPIError,
    InternalServerError,
    InvalidArgument,
    NotFound,
    RetryError,
    ServiceUnavailable,
    Unknown,
)
from google.cloud.bigquery_storage_v1 import BigQueryReadClient, BigQueryWriteClient, types
from google.cloud.bigquery_storage_v1.services.big_query_write.transports import BigQueryWriteGrpcTransport

from schemas.settings import Settings
from schemas.tables import TABLES, Column, Table, table
from sinks.arrow import arrow_schema, record_batches
from sinks.target import IMPORTED, Commit, Place, Progress, SinkError, WarehouseAwayError, from_offsets, key_columns
from warehouse import schema
from warehouse.answer import WarehouseError
from warehouse.bigquery import BigQueryReader, client, dataset_of

_APPEND_TIMEOUT_S = 60.0
_TRIES = 6
_UNCERTAIN = (ServiceUnavailable, DeadlineExceeded, Aborted, InternalServerError, Unknown)
_ALREADY_EXISTS = grpc.StatusCode.ALREADY_EXISTS.value[0]

_log = structlog.get_logger()


def _struct(described: Table) -> str:
    return f"ARRAY<STRUCT<{', '.join(f'`{column.name}` {column.type}' for column in described.columns)}>>"


JOURNAL = Table(
    "_journal",
    None,
    None,
    "sequence",
    "committed_at",
    (),
    (
        Column(
            "sequence", "INT64", True, "Number of the step; the first of a session has its streams and no progress."
        ),
        Column("streams", "ARRAY<STRING>", False, "Streams that the session writes to."),
        Column("progress", _struct(schema.PROGRESS), False, "Of the partitions that the step read."),
        Column("entries", _struct(table("ledger")), False, "Ledger entries of the step."),
        Column("committed_at", "TIMESTAMP", True, "When the step was complete."),
    ),
)

_VIEWS = {
    "ledger": "SELECT e.* FROM _journal AS j, UNNEST(j.entries) AS e",
    "_progress": """
        SELECT p.* FROM _journal AS j, UNNEST(j.progress) AS p
        WHERE TRUE
        QUALIFY ROW_NUMBER() OVER (PARTITION BY p.topic, p.`partition` ORDER BY j.sequence DESC) = 1
    """,
}


@dataclass
class _Stream:
    name: str
    schema: pa.Schema
    offset: int = 0


class BigQueryTarget:
    """See the module: what is guaranteed, and what voids it."""

    def __init__(self, settings: Settings, sleep: Callable[[float], None] = time.sleep) -> None:
        self._settings, self._sleep = settings, sleep
        self._dataset = dataset_of(settings)
        try:
            self._client = client(settings)
            schema.apply_bigquery(self._client, self._dataset, without=("ledger",), private=(JOURNAL,), views=_VIEWS)
            self.reader = BigQueryReader(settings)
            self._writer = _write_client(settings)
            self._open()
        except (*_UNCERTAIN, RetryError, ConnectionError) as error:
            raise WarehouseAwayError(f"BigQuery cannot be reached: {error}") from None
        except (WarehouseError, GoogleAPIError) as error:
            raise SinkError(f"BigQuery cannot be used: {error}") from None

    def _open(self) -> None:
        """Shuts out the session before, and writes down the streams of this one."""
        last = self.reader.query(
            "SELECT MAX(sequence) AS sequence, MAX(IF(ARRAY_LENGTH(streams) > 0, sequence, NULL)) AS session "
            "FROM _journal"
        ).rows[0]
        self._sequence = int(last["sequence"] or 0)
        asked = "SELECT s FROM _journal AS j, UNNEST(j.streams) AS s WHERE j.sequence = @session"
        for row in self.reader.query(asked, {"session": last["session"] or 0}).rows:
            try:
                self._writer.finalize_write_stream(name=row["s"])
            except (NotFound, InvalidArgument) as error:  # gone, and so can take nothing any more
                _log.info("a stream of the last session is gone", stream=row["s"], why=error.message)
        loaded = [each for each in TABLES if each.topic is not None]
        self._streams = {each.name: self._stream(each) for each in (*loaded, JOURNAL)}
        self._write_journal(streams=[stream.name for stream in self._streams.values()])

    def _stream(self, described: Table) -> _Stream:
        parent = f"projects/{self._dataset.project}/datasets/{self._dataset.dataset_id}/tables/{described.name}"
        asked = types.WriteStream(type_=types.WriteStream.Type.COMMITTED)
        created = self._writer.create_write_stream(parent=parent, write_stream=asked)
        return _Stream(created.name, arrow_schema(described))

    def progress(self) -> dict[Place, Progress]:
        """What the last row of the journal said."""
        rows = self.reader.query("SELECT * FROM _progress").rows
        names = Progress.__dataclass_fields__
        return {(row["topic"], row["partition"]): Progress(**{name: row[name] for name in names}) for row in rows}

    def orphans(self, progress: Mapping[Place, Progress]) -> dict[str, pl.DataFrame]:
        """Rows of a step that was not completed, by partition and offset."""
        found = {}
        for each in TABLES:
            if each.topic is None:
                continue
            beyond = from_offsets(
                {place[1]: own.next_offset for place, own in progress.items() if place[0] == each.topic}
            )
            rows = self.reader.query(
                f"SELECT kafka_partition, kafka_offset FROM {each.name} WHERE {beyond}"  # noqa: S608 - ours
            ).rows
            if rows:
                found[each.name] = pl.DataFrame(rows, schema={"kafka_partition": pl.Int64, "kafka_offset": pl.Int64})
        return found

    def keys(self, table: Table, since: datetime | None, first: Mapping[int, int]) -> Iterator[pl.DataFrame]:
        """Key columns of the rows, page by page."""
        columns = ", ".join(f"`{column}`" for column in key_columns(table))
        if since is not None:
            columns += ", received_at, source"
        sql = f"SELECT {columns} FROM `{self._dataset.dataset_id}`.`{table.name}` WHERE {from_offsets(first)}"  # noqa: S608
        if since is not None:
            sql += f" AND (received_at >= TIMESTAMP '{since.isoformat()}' OR source = '{IMPORTED}')"
        try:
            reading = None if self._settings.bigquery_endpoint else BigQueryReadClient()
            for batch in self._client.query(sql).result().to_arrow_iterable(bqstorage_client=reading):
                yield pl.DataFrame(pl.from_arrow(batch))
        except GoogleAPIError as error:
            raise WarehouseAwayError(f"BigQuery does not tell the known ids: {error}") from None

    def held(self, table: Table, keys: pl.DataFrame) -> pl.DataFrame:  # noqa: ARG002 - the interface's
        """All of them: a hit is believed, see the module."""
        return keys

    def commit(self, step: Commit) -> None:
        """Rows, then the journal; where BigQuery does not take them, the next session completes the step."""
        for name, rows in step.rows.items():
            if rows.height:
                self._append(self._streams[name], rows)
        progress = [
            {"topic": topic, "partition": partition, **asdict(own)} for (topic, partition), own in step.progress.items()
        ]
        self._write_journal(progress=progress, entries=step.ledger.to_dicts())

    def _write_journal(self, **values: object) -> None:
        self._sequence += 1
        empty: dict[str, object] = {"streams": [], "progress": [], "entries": []}
        row = {**empty, **values, "sequence": self._sequence, "committed_at": datetime.now(UTC)}
        journal = self._streams["_journal"]
        frame = pl.DataFrame(pl.from_arrow(pa.Table.from_pylist([row], journal.schema)))
        self._append(journal, frame)

    def _append(self, stream: _Stream, rows: pl.DataFrame) -> None:
        for batch in record_batches(rows, stream.schema):
            request = types.AppendRowsRequest(
                write_stream=stream.name,
                offset=stream.offset,
                arrow_rows=types.AppendRowsRequest.ArrowData(
                    writer_schema=types.ArrowSchema(serialized_schema=stream.schema.serialize().to_pybytes()),
                    rows=types.ArrowRecordBatch(serialized_record_batch=batch.serialize().to_pybytes()),
                ),
            )
            self._send(request)
            stream.offset += batch.num_rows

    def _send(self, request: types.AppendRowsRequest) -> None:
        """Sends until it is certain; the client's own retries would go on for a day."""
        for attempt in range(_TRIES):
            try:
                for answer in self._writer.append_rows(iter([request]), retry=None, timeout=_APPEND_TIMEOUT_S):
                    if answer.error.code and answer.error.code != _ALREADY_EXISTS:
                        raise SinkError(f"BigQuery refused rows: {answer.error.message} {list(answer.row_errors)[:1]}")
                return
            except AlreadyExists:
                return
            except _UNCERTAIN as error:
                _log.warning("BigQuery did not answer; sending again", why=error.message)
                self._sleep(min(0.25 * 2**attempt, 5))
            except GoogleAPIError as error:
                raise SinkError(f"BigQuery refused rows: {error}") from None
        raise WarehouseAwayError("BigQuery cannot be reached: the batch is loaded again when it is back.")

    def close(self) -> None:
        """Finalizes the streams of this process."""
        try:
            for stream in self._streams.values():
                self._writer.finalize_write_stream(name=stream.name, timeout=1)
        except GoogleAPIError as error:
            _log.info("streams are left open; the next session closes them", why=str(error))


def _write_client(settings: Settings) -> BigQueryWriteClient:
    if settings.bigquery_grpc_endpoint:
        channel = grpc.insecure_channel(settings.bigquery_grpc_endpoint)
        return BigQueryWriteClient(transport=BigQueryWriteGrpcTransport(channel=channel))
    return BigQueryWriteClient(client_options=ClientOptions(quota_project_id=settings.bigquery_project))
