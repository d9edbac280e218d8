"""A part of a worker's state, as snapshots see it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Segment:
    """A part of the state: it is written again only when `token` differs from that of the last snapshot."""

    token: object
    data: Callable[[], bytes]

    @classmethod
    def of(cls, token: object, data: bytes) -> Segment:
        """A part that is kept as its bytes, which the snapshot then shares."""
        return cls(token, lambda: data)
