"""Content encodings of a body, unpacked piece by piece, so that a bomb is found before it has gone off."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Protocol

from backports import zstd

ENCODINGS = ("gzip", "zstd", "deflate")

_WINDOW_LOG_MAX = 23  # 8 MiB, the most that RFC 8878 asks a decoder to have


class _Stream(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def _zstd() -> _Stream:
    return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _WINDOW_LOG_MAX})


_STREAMS: dict[str, Callable[[], _Stream]] = {
    "gzip": lambda: zlib.decompressobj(31),
    "deflate": zlib.decompressobj,  # RFC 9110: the zlib format
    "zstd": _zstd,
}


class Unpacker:
    """Unpacks one of ENCODINGS. gzip members and zstd frames may follow one another, as their formats allow."""

    def __init__(self, encoding: str) -> None:
        self._new = _STREAMS[encoding]
        self._stream = self._new()

    @property
    def ended(self) -> bool:
        """The stream is complete."""
        return self._stream.eof

    def unpack(self, data: bytes, room: int) -> bytes:
        """What these bytes hold, at most `room` bytes of it; raises ValueError when they are not of the encoding."""
        parts: list[bytes] = []
        try:
            while data and room > 0:
                if self._stream.eof:
                    self._stream = self._new()
                part = self._stream.decompress(data, room)
                parts.append(part)
                room -= len(part)
                data = self._stream.unused_data
        except (zlib.error, zstd.ZstdError) as error:
            raise ValueError(str(error)) from None
        return b"".join(parts)
