"""Bytes as lines, or as the elements of one JSON array; what cannot be split becomes one record."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cached_property
from itertools import chain
from typing import Generic, TypeVar

import msgspec

from producers.door import PAYLOAD_MAX_BYTES, Refused
from schemas.reasons import BadRecordError, Reason

T = TypeVar("T")

Numbered = Iterator[tuple[int, bytes | Refused]]
"""Lines or elements with their number in the file, from 1."""


def lines(blocks: Iterator[bytes]) -> Numbered:
    """Lines that are not blank, without their newline; an endless one keeps its first bytes only."""
    number, rest, head, skipped = 0, b"", b"", 0
    crlf: bool | None = None
    for block in chain(blocks, [b""]):
        *lines, rest = (rest + block).split(b"\n") if block else ([rest, b""] if rest else [b""])
        if crlf is None and lines:
            crlf = lines[0].endswith(b"\r")
        for line in lines:
            number += 1
            if skipped:
                size = skipped + len(line)
                yield number, Refused(BadRecordError(Reason.TOO_LARGE, f"{size} bytes"), head)
                skipped = 0
                continue
            text = line[:-1] if crlf and line.endswith(b"\r") else line
            if text.strip():
                yield number, text
        if skipped or len(rest) > PAYLOAD_MAX_BYTES:
            if not skipped:
                head = rest[:PAYLOAD_MAX_BYTES]
            skipped += len(rest)
            rest = b""
    if skipped:
        yield number + 1, Refused(BadRecordError(Reason.TOO_LARGE, f"{skipped} bytes"), head)


def array(data: bytes, inside: str = "") -> Numbered:
    """Elements of a JSON array, or of the array `inside` an object; what cannot be read is one record, the last."""
    try:
        if inside:
            elements = msgspec.json.decode(data, type=dict[str, msgspec.Raw])[inside]
            found = msgspec.json.decode(elements, type=list[msgspec.Raw])
        else:
            found = msgspec.json.decode(data, type=list[msgspec.Raw])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, KeyError):
        yield from _array_piecewise(data[begin_of_array(data, inside) :] if inside else data)
        return
    for number, raw in enumerate(found, 1):
        yield number, bytes(raw)


class Elements(Generic[T]):
    """All elements of a JSON array as structs, decoded in one go; their bytes are found again where they are needed.

    Raises msgspec.MsgspecError, UnicodeDecodeError or RecursionError when any element is something else.
    """

    def __init__(self, data: bytes, kind: type[T]) -> None:
        self.rows: list[T] = msgspec.json.decode(data, type=list[kind])  # type: ignore[valid-type]
        self._data = data

    @cached_property
    def _raw(self) -> list[msgspec.Raw]:
        return msgspec.json.decode(self._data, type=list[msgspec.Raw])

    def raw(self, number: int) -> bytes:
        """The bytes of an element, counted from 1."""
        return bytes(self._raw[number - 1])


def begin_of_array(data: bytes, inside: str) -> int:
    """Where the array of that field begins in an object; -1 when it does not."""
    found = re.search(rb'^\s*\{.*?"' + inside.encode() + rb'"\s*:\s*\[', data, re.DOTALL)
    return found.end() - 1 if found else -1


def _array_piecewise(data: bytes) -> Numbered:
    """Elements one by one, as far as they can be read; then the broken rest, but for the end of an object around it."""
    text = data.decode("utf-8", "surrogateescape")
    decoder = json.JSONDecoder(strict=False, parse_int=float)
    at, number = text.index("[") + 1, 0
    while True:
        number += 1
        start = _skip(text, at, " \t\r\n")
        try:
            _, at = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            break
        yield number, text[start:at].encode("utf-8", "surrogateescape")
        after = _skip(text, at, " \t\r\n")
        if text[after : after + 1] != ",":
            start = _skip(text, after + 1, " \t\r\n") if text[after : after + 1] == "]" else after
            number += 1
            break
        at = after + 1
    rest = text[start:].encode("utf-8", "surrogateescape")
    if rest.strip() not in (b"", b"}"):
        shown = f"{rest[:40]!a}, {len(rest)} bytes from where the array cannot be read on"
        yield number, Refused(BadRecordError(Reason.NOT_JSON, shown), rest)


def _skip(text: str, at: int, characters: str) -> int:
    while at < len(text) and text[at] in characters:
        at += 1
    return at


def is_object(line: bytes) -> bool:
    """Whether some bytes are one JSON object."""
    try:
        return isinstance(msgspec.json.decode(line), dict)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
