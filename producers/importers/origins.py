"""Where histories come from: files, folders, and zips as they are downloaded, read without unpacking them to disk."""

from __future__ import annotations

import io
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

MEMBER_MAX_BYTES = 2 << 30
"""A longer member of a zip is not read."""

INNER_ZIP_MAX_BYTES = 512 << 20
"""A zip within a zip is held in memory."""

MEMBERS_MAX = 20_000
RATIO_MAX = 200
"""Histories shrink to a twentieth. What claims to grow by more than this, to more than 64 MiB, is a bomb."""

_RATIO_FROM_BYTES = 64 << 20
_DEPTH_MAX = 3
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)

BROKEN_ZIP = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError, OverflowError, struct.error)
"""What zipfile raises over bytes that are no zip."""


@dataclass(frozen=True)
class Origin:
    """A file that can be read, on disk or in a zip on disk (`path`): its name, its size in bytes, how to open it."""

    name: str
    size: int
    open: Callable[[], IO[bytes]]
    path: Path


@dataclass(frozen=True)
class Unreadable:
    """A file that is not read, and why."""

    name: str
    why: str


def on_disk(path: Path) -> Origin:
    """One file; raises OSError when it is not there."""
    return Origin(str(path), path.stat().st_size, lambda: path.open("rb"), path)


def origins(paths: Iterable[Path]) -> Iterator[Origin | Unreadable]:
    """Every file of the files, folders and zips, in the order of their names.

    Raises OSError for a path that is not there; what is in a folder and cannot be read is told as Unreadable.
    """
    for path in paths:
        path.stat()
        for file in _walked(path) if path.is_dir() else [path]:
            try:
                if not file.is_file():
                    yield Unreadable(str(file), "no regular file")
                elif _is_zip(file):
                    yield from _members(str(file), file.open("rb"), file, 1)
                else:
                    yield on_disk(file)
            except OSError as error:
                if file == path:
                    raise
                yield Unreadable(str(file), error.strerror or str(error))


def _walked(folder: Path) -> Iterator[Path]:
    for directory, folders, files in os.walk(folder):
        folders.sort()
        yield from (Path(directory, name) for name in sorted(files))


def _is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")


def _members(name: str, opened: IO[bytes], path: Path, depth: int) -> Iterator[Origin | Unreadable]:
    try:
        archive = zipfile.ZipFile(opened)
    except BROKEN_ZIP as error:
        yield Unreadable(name, f"broken zip: {error}")
        return
    members = [member for member in archive.infolist() if not member.is_dir()]
    if len(members) > MEMBERS_MAX:
        yield Unreadable(name, f"{len(members):,} files in one zip; {MEMBERS_MAX:,} are read at most")
        return
    for member in sorted(members, key=lambda info: info.filename):
        full = f"{name}/{member.filename}"
        if why := _refusal(member):
            yield Unreadable(full, why)
        elif not member.filename.lower().endswith(".zip"):
            yield Origin(full, member.file_size, partial(_opened, archive, member), path)
        elif depth == _DEPTH_MAX or member.file_size > INNER_ZIP_MAX_BYTES:
            yield Unreadable(full, "a zip in a zip that is too deep or too large: unpack it first")
        else:
            try:
                inner = _opened(archive, member).read()
            except BROKEN_ZIP as error:
                yield Unreadable(full, f"broken zip: {error}")
                continue
            yield from _members(full, io.BytesIO(inner), path, depth + 1)


def _opened(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> IO[bytes]:
    """A member; where its place in the file cannot be, that is one of BROKEN_ZIP too."""
    try:
        return archive.open(member)
    except OSError as error:
        raise zipfile.BadZipFile(error.strerror) from None


def _refusal(member: zipfile.ZipInfo) -> str | None:
    """Why a member is not read; the size that it claims is a promise that zipfile holds it to."""
    if member.flag_bits & 1:
        return "encrypted: unpack it first"
    if member.compress_type not in _METHODS:
        return "compressed in a way that cannot be read: unpack it first"
    if member.file_size > MEMBER_MAX_BYTES:
        return f"{member.file_size >> 20:,} MiB; {MEMBER_MAX_BYTES >> 20:,} MiB are read at most: unpack it first"
    if member.file_size > max(_RATIO_FROM_BYTES, RATIO_MAX * member.compress_size):
        return f"grows from {member.compress_size:,} to {member.file_size:,} bytes: this looks like a zip bomb"
    return None
