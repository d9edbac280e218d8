"""The loss ledger: what Kafka acknowledged against what the warehouse holds, from both themselves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime

from confluent_kafka import IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from schemas import topics
from schemas.kafka import KafkaUnavailableError, admin, partitions_of
from schemas.settings import Settings
from schemas.tables import TABLES
from sinks.target import Place, Progress
from warehouse.runner import Reader, WarehouseError, reader

_TIMEOUT_S = 10.0

_QUESTION = f"""
SELECT
  (SELECT COUNT(*) FROM events) AS loaded,
  (SELECT COUNT(*) FROM dead_letters WHERE topic IS NULL) AS door_letters,
  (SELECT COUNT(*) FROM dead_letters WHERE topic = '{topics.EVENTS}') AS event_letters,
  (SELECT COALESCE(SUM(deduplicated), 0) FROM ledger) AS deduplicated,
  (SELECT COALESCE(SUM(accepted), 0) FROM ledger WHERE STARTS_WITH(entry_id, '{topics.DEAD_LETTERS}/'))
    AS door_accepted,
  p.*
FROM (SELECT 1) LEFT JOIN _progress AS p ON TRUE
"""  # noqa: S608 - names of ours; one statement, so that all numbers are of one moment


_LINES = """
SELECT hour, tenant, source, accepted, loaded, dead_lettered, deduplicated, in_flight, age_s, difference
FROM ledger_hours
ORDER BY hour DESC, tenant, source
"""


@dataclass(frozen=True)
class Ledger:
    """The figures. Everything accepted is loaded, dead-lettered, deduplicated or still in flight.

    accepted: records acknowledged in `listening-events` (without watermark records), readable or not, and dead letters
    that doors wrote, as often as they were sent. dead_lettered: rows of `dead_letters` that doors wrote or that are
    about records of `listening-events`; letters about records of other topics are no part of the ledger. in_flight:
    records that the sink has not read yet, and unreadable ones whose dead letter has not arrived.
    """

    accepted: int
    loaded: int
    dead_lettered: int
    deduplicated: int
    in_flight: int

    @property
    def balances(self) -> bool:
        """Whether nothing is missing and nothing is there twice."""
        return self.accepted == self.loaded + self.dead_lettered + self.deduplicated + self.in_flight

    @property
    def settled(self) -> bool:
        """Whether it balances with nothing in flight."""
        return self.balances and self.in_flight == 0

    def as_dict(self) -> dict[str, int]:
        """The five figures by name."""
        return asdict(self)


@dataclass(frozen=True)
class Counts:
    """What the warehouse says at one moment."""

    loaded: int
    door_letters: int
    event_letters: int
    deduplicated: int
    door_accepted: int
    progress: Mapping[Place, Progress]


def counts(source: Reader) -> Counts:
    """Asks the warehouse; raises WarehouseError."""
    rows = source.query(_QUESTION).rows
    first = rows[0]
    progress = {
        (row["topic"], row["partition"]): Progress(**{name: row[name] for name in Progress.__dataclass_fields__})
        for row in rows
        if row["topic"] is not None
    }
    numbers = {name: int(first[name]) for name in Counts.__dataclass_fields__ if name != "progress"}
    return Counts(**numbers, progress=progress)


def figures(found: Counts, ends: Mapping[Place, tuple[int, int]]) -> Ledger:
    """The ledger of warehouse counts and Kafka's (earliest, end) offsets, asked after them."""
    accepted = found.door_accepted
    in_flight = -found.event_letters
    for place, (earliest, end) in ends.items():
        if place[0] == topics.EVENTS:
            own = found.progress.get(place, Progress(earliest, earliest))
            accepted += end - own.first_offset - own.controls
            in_flight += end - own.next_offset + own.broken
    dead_lettered = found.door_letters + found.event_letters
    return Ledger(accepted, found.loaded, dead_lettered, found.deduplicated, in_flight)


@dataclass(frozen=True)
class Line:
    """The ledger of an hour, tenant and way in, recounted from the rows; see warehouse/views/ledger_hours.sql."""

    hour: datetime
    tenant: str
    source: str
    accepted: int
    loaded: int
    dead_lettered: int
    deduplicated: int
    in_flight: int
    age_s: int
    difference: int


def lines(source: Reader) -> list[Line]:
    """Asks the warehouse for all lines, the newest hour first; raises WarehouseError."""
    rows = source.query(_LINES).rows
    return [Line(**{name: row[name] for name in Line.__dataclass_fields__}) for row in rows]


def lags(progress: Mapping[Place, Progress], ends: Mapping[Place, tuple[int, int]]) -> dict[str, int]:
    """Records of each topic that are not in the warehouse."""
    lag: dict[str, int] = {}
    for place, (earliest, end) in ends.items():
        own = progress.get(place, Progress(earliest, earliest))
        lag[place[0]] = lag.get(place[0], 0) + max(end - own.next_offset, 0)
    return lag


def sink_topics() -> list[str]:
    """Topics that have a table."""
    return [table.topic for table in TABLES if table.topic is not None]


def ends_of(client: AdminClient, names: Iterable[str]) -> dict[Place, tuple[int, int]]:
    """(earliest, end) offsets of all partitions of these topics; raises KafkaUnavailableError."""
    try:
        places = [(name, partition) for name in names for partition in partitions_of(client, name)]
        earliest, latest = (_offsets(client, places, spec) for spec in (OffsetSpec.earliest(), OffsetSpec.latest()))
    except KafkaException as error:
        raise KafkaUnavailableError(f"Kafka does not tell its offsets: {error.args[0].str()}") from None
    return {place: (earliest[place], latest[place]) for place in places}


def _offsets(client: AdminClient, places: list[Place], spec: OffsetSpec) -> dict[Place, int]:
    asked = {TopicPartition(*place): spec for place in places}
    told = client.list_offsets(asked, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=_TIMEOUT_S)
    return {(at.topic, at.partition): int(future.result(_TIMEOUT_S).offset) for at, future in told.items()}


def balance(settings: Settings, source: Reader | None = None, client: AdminClient | None = None) -> Ledger:
    """The ledger now, from Kafka and the warehouse; the sink may run or not.

    Raises KafkaUnavailableError and WarehouseError.
    """
    try:
        found = counts(source or reader(settings))
    except WarehouseError:
        if settings.warehouse == "duckdb" and not settings.duckdb_file.exists():
            found = Counts(0, 0, 0, 0, 0, {})
        else:
            raise
    return figures(found, ends_of(client or admin(settings), [topics.EVENTS]))
