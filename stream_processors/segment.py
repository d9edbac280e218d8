"""A part of a state, which a snapshot writes again only when it has changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Segment:
    """`data` gives the bytes; they are the same as long as `token` is."""

    token: object
    data: Callable[[], bytes]
