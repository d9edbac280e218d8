"""A file of records, gzip or plain: what can be read is read, and the broken rest is one record."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import msgspec

from producers.door import Refused
from producers.importers import Numbered
from producers.importers.splitting import array, is_object, lines
from schemas.reasons import BadRecordError, Reason

_BLOCK = 1 << 17
_GZIP = b"\x1f\x8b"
_BOM = b"\xef\xbb\xbf"


class _BrokenError(Exception):
    """A gzip stream that cannot be read on: why, and the compressed bytes at that place."""

    def __init__(self, why: str, rest: bytes) -> None:
        super().__init__(why)
        self.rest = rest


class InputFile:
    """One file; `position` of `size` bytes are read so far."""

    def __init__(self, path: Path) -> None:
        self.path, self.position, self.size = path, 0, path.stat().st_size
        self._blocks = self._unpacked()
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

    def sample(self) -> list[object]:
        """The first objects of the file, as far as they can be decoded."""
        found = array(self._first) if self.is_array else lines(iter([self._first]))
        decoded = []
        for _, raw in zip(range(20), found, strict=False):
            try:
                decoded.append(msgspec.json.decode(raw[1]) if isinstance(raw[1], bytes) else None)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                continue
        return decoded

    def records(self) -> Numbered:
        """Lines, or elements of the array, in the order of the file; then what is broken, as one record."""
        blocks = chain([self._first], iter(self._read, b""))
        number = 0
        found = array(b"".join(blocks)) if self.is_array else lines(blocks)
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

    def _rest(self, broken: _BrokenError, held: tuple[int, bytes | Refused] | None, number: int) -> Numbered:
        """The last record may be cut: it and the rest of the stream are one record."""
        last = held[1] if held else b""
        payload = last.payload if isinstance(last, Refused) else last
        if isinstance(last, bytes) and held is not None and is_object(last):
            yield held
            payload, number = b"", number + 1
        yield number, Refused(BadRecordError(Reason.NOT_JSON, str(broken)), payload or broken.rest)

    def _read(self) -> bytes:
        """The next bytes; none at the end, and where the file is broken."""
        try:
            return next(filter(None, self._blocks), b"")
        except _BrokenError as error:
            self._broken = error
            return b""

    def _unpacked(self) -> Iterator[bytes]:
        with self.path.open("rb") as file:
            unpack = None
            while block := file.read(_BLOCK):
                if self.position == 0 and block.startswith(_GZIP):
                    unpack = zlib.decompressobj(31)
                self.position += len(block)
                if unpack is None:
                    yield block
                    continue
                while block:
                    if unpack.eof:
                        unpack = zlib.decompressobj(31)
                    try:
                        yield unpack.decompress(block)
                    except zlib.error as error:
                        raise _BrokenError(f"gzip broken before byte {self.position}, {error}", block) from None
                    block = unpack.unused_data.lstrip(b"\0")
            if unpack is not None and not unpack.eof:
                raise _BrokenError(f"gzip ends too early, at byte {self.position}", b"")
