"""Running values within groups of neighbouring rows: what a stream of one listener needs, for all listeners at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint64]
Columns = dict[str, npt.NDArray[Any]]
"""Columns of equal length by name."""

NEVER = -(1 << 62)
"""A time before all times."""
WITHOUT_LANE = (1 << 64) - 2
"""The last bit of a 64-bit key is free for the lane: 0 live, 1 behind."""


def continues(keys: Keys) -> Bools:
    """Whether a row has the key of the row before it."""
    same = np.zeros(len(keys), np.bool_)
    np.equal(keys[1:], keys[:-1], out=same[1:])
    return same


def before(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The value of the row before; 0 for the first row."""
    moved = np.zeros_like(values)
    moved[1:] = values[:-1]
    return moved


def after(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The value of the row after; 0 for the last row."""
    moved = np.zeros_like(values)
    moved[:-1] = values[1:]
    return moved


def sorting(numbers: Ints | Keys) -> Ints:
    """The places of the rows in the order of their numbers, none below 0; equal numbers keep their order.

    By 16 bits at a time, which numpy sorts by counting: 5 ns a row, where comparing takes 60.
    """
    order: Ints = np.argsort(numbers.astype(np.uint16), kind="stable")
    for shift in range(16, int(numbers.max(initial=0)).bit_length(), 16):
        order = order[np.argsort((numbers >> numbers.dtype.type(shift)).astype(np.uint16)[order], kind="stable")]
    return order


def picked(rows: Columns, places: Ints) -> Columns:
    """The rows at these places, in this order."""
    return {name: values[places] for name, values in rows.items()}


def spread(known: npt.NDArray[Any], rows: Ints) -> npt.NDArray[Any]:
    """The value for each row that is a head (its number is its place in `known`), 0 for the others."""
    values = np.zeros(len(rows), known.dtype)
    places = np.flatnonzero(rows < len(known))
    values[places] = known[rows[places]]
    return values


def first_of(same: Bools) -> Ints:
    """Place of the first row of each row's group; `same`: the row continues the group of the row before."""
    first: Ints = np.maximum.accumulate(np.where(same, 0, np.arange(len(same))))
    return first


def last_of(same: Bools) -> Ints:
    """Place of the last row of each row's group."""
    last: Ints = len(same) - 1 - first_of(after(same)[::-1])[::-1]
    return last


def running_sum(values: npt.NDArray[Any], first: Ints) -> Ints:
    """Sum over the rows of the group up to and with each row."""
    total = np.cumsum(values, dtype=np.int64)
    sums: Ints = total - total[first] + values[first]
    return sums


def running_max(values: Ints, first: Ints) -> Ints:
    """Maximum over the rows of the group up to and with each row, in log2(longest group) passes."""
    most = values.copy()
    place = np.arange(len(values)) - first
    step = 1
    rows = np.flatnonzero(place >= step)
    while len(rows):
        most[rows] = np.maximum(most[rows], most[rows - step])
        step *= 2
        rows = rows[place[rows] >= step]
    return most
