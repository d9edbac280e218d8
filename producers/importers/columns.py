"""Listens as columns of listening_event.avsc: the events that `Listen.events` gives, without an object for each."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from producers.event import EVENT_TYPES
from producers.importers.listens import END, PLAY, Listen

TEXT = pa.large_string()
_NUMBER, _TRUTH = pa.int64(), pa.bool_()
_OF_BOTH = {
    **dict.fromkeys(("user_id", "track_id", "platform", "country", "device"), TEXT),
    **dict.fromkeys(("shuffle", "offline", "incognito"), _TRUTH),
}
_OF_PLAY = {
    **dict.fromkeys(("reason_start", "track_name", "artist_name", "album_name", "isrc"), TEXT),
    **dict.fromkeys(("position_ms", "duration_ms"), _NUMBER),
}
_OF_END = {"reason_end": TEXT, "ms_played": _NUMBER}
_SUFFIXES, _TYPES = pa.array([PLAY, END], TEXT), pa.array(EVENT_TYPES, TEXT)
_PLAY, _PAUSE, _SKIP = (np.int32(EVENT_TYPES.index(name)) for name in ("play", "pause", "skip"))


def events_of(listens: Sequence[Listen]) -> pa.RecordBatch:
    """All events of the listens, in their order; `user_id` is told in private sessions too."""

    def told(name: str, kind: pa.DataType) -> pa.Array:
        return pa.array(list(map(attrgetter(name), listens)), kind)

    stop_ms = told("stop_ms", _NUMBER)
    has_end = stop_ms.is_valid().to_numpy(zero_copy_only=False)
    events = 1 + has_end
    of = np.repeat(np.arange(len(listens), dtype=np.int32), events)
    is_end = np.zeros(len(of), np.bool_)
    is_end[np.cumsum(events)[has_end] - 1] = True
    both, plays, ends = pa.array(of), pa.array(of, mask=is_end), pa.array(of, mask=~is_end)
    ended = np.where(told("is_skip", _TRUTH).to_numpy(zero_copy_only=False), _SKIP, _PAUSE)
    suffixes = _SUFFIXES.take(pa.array(is_end.astype(np.int32)))
    rows = {
        "event_id": pc.binary_join_element_wise(told("event_id", TEXT).take(both), suffixes, pa.scalar("", TEXT)),
        "event_type": pa.DictionaryArray.from_arrays(np.where(is_end, ended[of], _PLAY), _TYPES),
        "timestamp": pc.if_else(is_end, stop_ms.take(both), told("start_ms", _NUMBER).take(both)),
    }
    for fields, index in ((_OF_BOTH, both), (_OF_PLAY, plays), (_OF_END, ends)):
        rows |= {name: told(name, kind).take(index) for name, kind in fields.items()}
    return pa.record_batch(rows)
