"""Polars frames as bytes: how state and partial results are kept and sent."""

from __future__ import annotations

import io

import polars as pl

_FILE = b"ARROW1"
"""Older releases told parts of windows as Arrow files; they may still be in the log."""


def to_bytes(frame: pl.DataFrame) -> bytes:
    """Arrow IPC as a stream, lz4; the same frame gives the same bytes."""
    out = io.BytesIO()
    frame.write_ipc_stream(out, compression="lz4")
    return out.getvalue()


def from_bytes(data: bytes) -> pl.DataFrame:
    """The frame of `to_bytes`."""
    read = pl.read_ipc if data.startswith(_FILE) else pl.read_ipc_stream
    return read(io.BytesIO(data))


_INLINE_BYTES = 12
"""Texts up to this length stand in the column itself and share no memory."""


def compacted(frame: pl.DataFrame) -> pl.DataFrame:
    """The same rows in memory of their own: a text that is kept keeps all texts of its batch in memory otherwise."""
    frame = frame.rechunk()
    longest = frame.select(pl.col(pl.String).str.len_bytes().max()).row(0, named=True)
    long = frame.select(name for name, length in longest.items() if (length or 0) > _INLINE_BYTES)
    copied = pl.from_arrow(long.to_arrow(compat_level=pl.CompatLevel.oldest()))
    assert isinstance(copied, pl.DataFrame)
    return frame.with_columns(copied.get_columns())
