"""Polars frames as bytes: how state and partial results are kept and sent."""

from __future__ import annotations

import io

import polars as pl


def to_bytes(frame: pl.DataFrame) -> bytes:
    """Arrow IPC, lz4; the same frame gives the same bytes."""
    out = io.BytesIO()
    frame.write_ipc(out, compression="lz4")
    return out.getvalue()


def from_bytes(data: bytes) -> pl.DataFrame:
    """The frame of `to_bytes`."""
    return pl.read_ipc(io.BytesIO(data))
