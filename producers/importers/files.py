"""A file of records, plain, gzip or in a zip: what can be read is read, and the broken rest is one record."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from functools import cached_property
from itertools import chain

import msgspec

from producers import event as events
from producers.door import Refused
from producers.importers.origins import BROKEN_ZIP, Origin
from producers.importers.splitting import Elements, Numbered, T, array, begin_of_array, is_object, lines
from schemas.reasons import BadRecordError, Reason

ARRAY_MAX_BYTES = 1 << 30
"""A JSON array is decoded as a whole, in memory: a longer one is refused, compressed or not."""

_BLOCK = 1 << 17
_PIECE = 1 << 20  # a few bytes may unpack to a thousand times as many
_GZIP = b"\x1f\x8b"
_BOM = b"\xef\xbb\xbf"


class _BrokenError(Exception):
    """A compressed stream that cannot be read on: why, and the compressed bytes at that place."""

    def __init__(self, why: str, rest: bytes) -> None:
        super().__init__(why)
        self.rest = rest


class InputFile:
    """One file; `position` of `size` bytes are read and handed out so far. Raises OSError when it cannot be opened."""

    def __init__(self, origin: Origin) -> None:
        self.name, self.size, self.position = origin.name, origin.size, 0
        self._origin, self._read_bytes = origin, 0
        self._bytes = self._unpacked()
        self._first = b""
        self._broken: _BrokenError | None = None
        for block in iter(self._read, b""):
            self._first += block
            if len(self._first) >= _BLOCK:
                break
        self._first = self._first.removeprefix(_BOM)

    @property
    def is_array(self) -> bool:
        """Whether the file is one JSON array, perhaps cut off, and not lines."""
        if not self._first.lstrip().startswith(b"["):
            return False
        whole = [is_object(line) for line in self._first.split(b"\n")[1:11] if line.strip()]
        return sum(whole) * 2 <= len(whole)

    def lines(self) -> list[tuple[int, bytes]]:
        """The first lines of the file."""
        found = zip(range(100), lines(iter([self._first])), strict=False)
        return [(number, raw) for _, (number, raw) in found if isinstance(raw, bytes)]

    def has_array(self, inside: str) -> bool:
        """Whether the file is an object with an array of that name."""
        return begin_of_array(self._first, inside) >= 0

    def sample(self, inside: str = "") -> list[object]:
        """The first objects of the file, or of the array `inside` it, as far as they can be decoded."""
        if inside and not self.has_array(inside):
            return []
        found = array(self._first, inside) if inside or self.is_array else lines(iter([self._first]))
        decoded = []
        for _, raw in zip(range(20), found, strict=False):
            try:
                decoded.append(events.load(raw[1]) if isinstance(raw[1], bytes) else None)
            except BadRecordError:
                continue
        return decoded

    def records(self, inside: str = "") -> Numbered:
        """Lines, or elements of the array (`inside` an object), in the order of the file; then what is broken."""
        if not inside and not self.is_array:
            yield from self._to_the_end(lines(self._positioned(self._blocks())))
            return
        data = self._whole
        if len(data) > ARRAY_MAX_BYTES:
            too_long = f"an array of more than {ARRAY_MAX_BYTES >> 20} MiB"
            yield 1, Refused(BadRecordError(Reason.TOO_LARGE, too_long), data[:_BLOCK])
        else:
            yield from self._to_the_end(array(data, inside))
        self.release()

    def elements(self, kind: type[T]) -> Elements[T] | None:
        """All elements of the array that the file is; None when it is none, or not all of it are of that kind."""
        if not self.is_array or len(self._whole) > ARRAY_MAX_BYTES or self._broken is not None:
            return None
        try:
            return Elements(self._whole, kind)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None

    def release(self) -> None:
        """Forgets the bytes of an array; the file is not read again."""
        self.__dict__.pop("_whole", None)

    @cached_property
    def _whole(self) -> bytes:
        """All bytes, or as many as show that there are too many."""
        parts, size = [], 0
        for block in self._blocks():
            parts.append(block)
            size += len(block)
            if size > ARRAY_MAX_BYTES:
                break
        return b"".join(parts)

    def _blocks(self) -> Iterator[bytes]:
        return chain([self._first], iter(self._read, b""))

    def _to_the_end(self, found: Numbered) -> Numbered:
        """The records, with the last and what is broken after it as one."""
        number = 0
        held: tuple[int, bytes | Refused] | None = None
        for record in found:
            if held is not None:
                yield held
            held = record
            number = record[0]
        if self._broken is not None:
            yield from self._rest(self._broken, held, number)
        elif held is not None:
            yield held

    def _positioned(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        for block in blocks:
            self.position = self._read_bytes
            yield block

    def _rest(self, broken: _BrokenError, held: tuple[int, bytes | Refused] | None, number: int) -> Numbered:
        """The last record may be cut: it and the rest of the stream are one record."""
        last = held[1] if held else b""
        payload = last.payload if isinstance(last, Refused) else last
        if isinstance(last, bytes) and held is not None and is_object(last):
            yield held
            payload, number = b"", number + 1
        yield max(number, 1), Refused(BadRecordError(Reason.NOT_JSON, str(broken)), payload or broken.rest)

    def _read(self) -> bytes:
        """The next bytes; none at the end, and where the file is broken."""
        try:
            return next(filter(None, self._bytes), b"")
        except _BrokenError as error:
            self._broken = error
            return b""

    def _unpacked(self) -> Iterator[bytes]:
        unpack = None
        for block in self._packed():
            if self._read_bytes == 0 and block.startswith(_GZIP):
                unpack = zlib.decompressobj(31)
            self._read_bytes += len(block)
            if unpack is None:
                yield block
                continue
            rest = block
            while rest:
                if unpack.eof:
                    unpack = zlib.decompressobj(31)
                try:
                    yield unpack.decompress(rest, _PIECE)
                    while unpack.unconsumed_tail:
                        yield unpack.decompress(unpack.unconsumed_tail, _PIECE)
                except zlib.error as error:
                    raise _BrokenError(f"gzip broken before byte {self._read_bytes}, {error}", rest) from None
                rest = unpack.unused_data.lstrip(b"\0")
        if unpack is not None and not unpack.eof:
            raise _BrokenError(f"gzip ends too early, at byte {self._read_bytes}", b"")

    def _packed(self) -> Iterator[bytes]:
        try:
            with self._origin.open() as file:
                while block := file.read(_BLOCK):
                    yield block
        except BROKEN_ZIP as error:
            raise _BrokenError(f"zip broken after byte {self._read_bytes}, {error}", b"") from None
