"""What a session is made of: the columns of events, of open sessions and of finished ones."""

from __future__ import annotations

import numpy as np
import polars as pl

from stream_processors.row_table import Schema
from stream_processors.windows import EVENT_TYPE

EVENTS_MAX = 10_000
COUNTED = {"plays": "play", "skips": "skip", "likes": "like", "shares": "share"}
KINDS = {column: EVENT_TYPE.categories.to_list().index(kind) for column, kind in COUNTED.items()}
DEVICE = np.uint64(0xD1CE)
TEXTS = ["event_id", "tenant", "source", "user_id", "platform", "country"]
NUMBERS: Schema = {
    "key": pl.UInt64,
    "owner": pl.UInt64,  # hash of listener and first event: the session
    "track": pl.UInt64,
    "device": pl.UInt64,  # 0: not told
    "kind": pl.UInt8,
    "timestamp": pl.Int64,
    "clock": pl.Int64,
    "ms_played": pl.Int64,
}
_EVENT: Schema = {**NUMBERS, **dict.fromkeys(TEXTS, pl.String)}
_SUMS = ["events", *COUNTED, "tracks", "devices"]
_MEMORY: Schema = {
    "behind": pl.Boolean,
    "newest": pl.Int64,  # greatest timestamp of the lane
    "started_at": pl.Int64,
    "ended_at": pl.Int64,
    **dict.fromkeys(_SUMS, pl.Int32),
}
OPEN: Schema = {**_EVENT, **_MEMORY}
SESSION: Schema = {
    "session_key": pl.String,
    **dict.fromkeys(TEXTS[1:], pl.String),
    "devices": pl.Int32,
    "started_at": pl.Int64,
    "ended_at": pl.Int64,
    "ended_by": pl.String,
    **dict.fromkeys(["events", *COUNTED, "tracks"], pl.Int32),
    "ms_played": pl.Int64,
}
