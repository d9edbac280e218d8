"""What a batch adds to the loss ledger, per tenant, source and hour."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from schemas import topics
from schemas.tables import Table
from sinks.decode import Broken


def ledger_entries(
    of: Table, rows: pl.DataFrame, broken: Sequence[Broken], new: pl.Series, batch: str, now_ms: int
) -> pl.DataFrame:
    """Rows of `ledger` of one topic's part of a batch; none for topics that are no way in.

    Events are accepted by being in `listening-events`, the unreadable ones too (under `unknown`, in the hour of their
    Kafka timestamp); their dead letter completes them. A letter of a door (without topic) is accepted itself, as often
    as it was sent. Letters about records of other topics are no part of the ledger.
    """
    counts: dict[str, pl.Series | pl.Expr]
    if of.name == "events":
        time = "received_at"
        counts = {"accepted": pl.lit(1), "loaded": new, "dead_lettered": pl.lit(0), "deduplicated": ~new}
    elif of.name == "dead_letters":
        mask = rows["topic"].is_null() | ((rows["topic"] == topics.EVENTS).fill_null(False) & new)
        rows, new = rows.filter(mask), new.filter(mask)
        at_door = rows["topic"].is_null()
        time = "failed_at"
        counts = {"accepted": at_door, "loaded": pl.lit(0), "dead_lettered": new, "deduplicated": at_door & ~new}
    else:
        return no_entries()
    counted = rows.select(
        "tenant",
        "source",
        hour=pl.col(time).dt.truncate("1h"),
        **counts,
    )
    if of.name == "events" and broken:
        counted = pl.concat(
            [counted.with_columns(pl.col(name).cast(pl.Int64) for name in _ENTRY_COUNTS), _unreadable(broken)]
        )
    sums = (
        counted.with_columns(pl.col(name).cast(pl.Int64) for name in _ENTRY_COUNTS)
        .group_by("tenant", "source", "hour")
        .sum()
    )
    return sums.select(
        entry_id=pl.format("{}/{}/{}/{}", pl.lit(batch), "tenant", "source", pl.col("hour").dt.strftime("%Y-%m-%dT%H")),
        tenant="tenant",
        source="source",
        hour="hour",
        **{name: name for name in _ENTRY_COUNTS},
        committed_at=pl.lit(now_ms).cast(pl.Datetime("ms", "UTC")),
    )


_ENTRY_COUNTS: dict[str, pl.DataType] = dict.fromkeys(
    ("accepted", "loaded", "dead_lettered", "deduplicated"), pl.Int64()
)


def _unreadable(broken: Sequence[Broken]) -> pl.DataFrame:
    times = pl.Series([bad.record.timestamp_ms for bad in broken]).cast(pl.Datetime("ms", "UTC"))
    return pl.DataFrame(
        {
            "tenant": [bad.tenant for bad in broken],
            "source": [bad.source for bad in broken],
            "hour": times.dt.truncate("1h"),
        }
    ).with_columns(
        *(pl.lit(int(name == "accepted"), pl.Int64).alias(name) for name in _ENTRY_COUNTS),
    )


def no_entries() -> pl.DataFrame:
    """No rows, all columns."""
    time = pl.Datetime("ms", "UTC")
    text = dict.fromkeys(("entry_id", "tenant", "source"), pl.String)
    return pl.DataFrame(schema={**text, "hour": time, **_ENTRY_COUNTS, "committed_at": time})
