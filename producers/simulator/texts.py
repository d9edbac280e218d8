"""Texts as Arrow arrays without a Python object each: numbers as hexadecimal digits, random ids."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Bytes = npt.NDArray[np.uint8]

_ALPHABET = np.frombuffer(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", np.uint8)
_HEX = np.frombuffer("".join(f"{n:02x}" for n in range(256)).encode(), np.uint16)


def texts(rows: Bytes) -> pa.LargeStringArray:
    """Rows of ASCII characters, all of one length, as texts."""
    count, width = rows.shape
    ends = np.arange(count + 1, dtype=np.int64) * width
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(np.ascontiguousarray(rows))]
    return pa.Array.from_buffers(pa.large_string(), count, buffers)


def characters(texts: pa.LargeStringArray) -> Bytes:
    """The rows of which `texts` made them."""
    found: Bytes = np.frombuffer(texts.buffers()[2], np.uint8).reshape(len(texts), -1)
    return found


def behind(prefix: str, rows: Bytes) -> Bytes:
    """Rows of characters that all begin alike."""
    start = np.frombuffer(prefix.encode(), np.uint8)
    out = np.empty((len(rows), len(start) + rows.shape[1]), np.uint8)
    out[:, : len(start)] = start
    out[:, len(start) :] = rows
    return out


def hexadecimal(numbers: npt.NDArray[Any], digits: int) -> Bytes:
    """The last `digits` hexadecimal digits (an even number, at most 16) of numbers, one row each."""
    parts = numbers.astype(">u8").view(np.uint8).reshape(-1, 8)[:, 8 - digits // 2 :]
    found: Bytes = _HEX[parts].view(np.uint8)
    return found


def decimal(numbers: npt.NDArray[Any], digits: int) -> Bytes:
    """The last decimal digits of numbers, one row each."""
    found: Bytes = ((numbers[:, None] // 10 ** np.arange(digits)[::-1]) % 10 + ord("0")).astype(np.uint8)
    return found


def random_ids(count: int, characters: int, random: np.random.Generator) -> Bytes:
    """Letters and digits, one row each."""
    found: Bytes = _ALPHABET[random.integers(0, len(_ALPHABET), (count, characters), np.uint8)]
    return found


def chosen(weights: list[float], random: np.random.Generator, count: int) -> npt.NDArray[np.int64]:
    """Indices by weight."""
    return np.searchsorted(running(np.array(weights)), random.random(count), side="right")


def running(weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Running sum of weights, ending at exactly 1: where a uniform number falls is what it picks."""
    sums: npt.NDArray[np.float64] = np.cumsum(weights / weights.sum())
    sums[-1] = 1.0
    return sums
