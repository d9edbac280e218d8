"""Files become records: lines and array elements with their original bytes, and one record for what is broken."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.door import PAYLOAD_MAX_BYTES, Refused
from producers.importers.files import InputFile
from producers.importers.origins import on_disk
from producers.importers.splitting import array, lines


def read(path: Path, data: bytes) -> list[tuple[int, bytes | Refused]]:
    path.write_bytes(data)
    return list(InputFile(on_disk(path)).records())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "input"


def test_lines_keep_their_bytes(file: Path) -> None:
    """Bytes that are no text, NUL and a carriage return of its own stay; blank lines are not records."""
    data = b'{"a": 1}\n\n  \n\xff\x00\xfe\nx\r\nlast'
    assert read(file, data) == [(1, b'{"a": 1}'), (4, b"\xff\x00\xfe"), (5, b"x\r"), (6, b"last")]


def test_windows_line_ends_and_a_byte_order_mark_are_no_part_of_a_line(file: Path) -> None:
    """A file with CRLF and BOM reads like one without."""
    assert read(file, b"\xef\xbb\xbf{}\r\n{}\r\n") == [(1, b"{}"), (2, b"{}")]


def test_an_empty_file_has_no_records(file: Path) -> None:
    """Nothing in, nothing out."""
    assert read(file, b"") == []
    assert read(file, b"\n\n") == []


def test_an_endless_line_keeps_its_first_bytes(file: Path) -> None:
    """A line that does not fit a dead letter is cut while it is read, and the lines after it are read."""
    found = read(file, b"{}\n" + b"x" * (PAYLOAD_MAX_BYTES + 300_000) + b"\n{}")
    assert [number for number, _ in found] == [1, 2, 3]
    cut = found[1][1]
    assert isinstance(cut, Refused)
    assert cut.error.reason == "too_large"
    assert str(PAYLOAD_MAX_BYTES + 300_000) in cut.error.detail
    assert len(cut.payload) == PAYLOAD_MAX_BYTES


def test_arrays_are_read_element_by_element(file: Path) -> None:
    """Each element keeps its bytes, wherever the newlines are."""
    assert read(file, b' [ {"a": 1},\n {"b" : [2, "]"]} ,3 ]\n') == [
        (1, b'{"a": 1}'),
        (2, b'{"b" : [2, "]"]}'),
        (3, b"3"),
    ]
    assert read(file, b"[]") == []


def test_a_cut_array_gives_what_is_whole_and_one_record_for_the_rest(file: Path) -> None:
    """Nothing that can be read is lost, and the rest is not lost either."""
    found = read(file, b'[{"a": 1}, {"b": NaN}, {"c": "\xff"}, {"d": 1, "e')
    assert found[:3] == [(1, b'{"a": 1}'), (2, b'{"b": NaN}'), (3, b'{"c": "\xff"}')]
    (number, rest) = found[3]
    assert number == 4
    assert isinstance(rest, Refused)
    assert rest.payload == b'{"d": 1, "e'


def test_lines_that_begin_with_a_bracket_are_still_lines(file: Path) -> None:
    """A broken first line does not make the file an array."""
    good = b'{"a": 1}'
    assert read(file, b"[broken\n" + good + b"\n" + good) == [(1, b"[broken"), (2, good), (3, good)]


def test_gzip_is_told_by_content(file: Path) -> None:
    """Compressed files, also of several members, read like plain ones."""
    data = gzip.compress(b"{}\n{}\n") + gzip.compress(b"[1]\n")
    assert [raw for _, raw in read(file, data)] == [b"{}", b"{}", b"[1]"]


def test_a_cut_gzip_gives_whole_lines_and_one_record_for_the_rest(file: Path) -> None:
    """A download that broke off: every whole line, then one dead letter."""
    whole = [json.dumps({"n": n, "noise": f"{n * 7919 % 1_000_003}"}).encode() for n in range(20_000)]
    data = gzip.compress(b"\n".join(whole))
    found = read(file, data[: len(data) // 2])
    assert len(found) > 5_000
    assert [raw for _, raw in found[:-1]] == whole[: len(found) - 1]
    last = found[-1][1]
    assert isinstance(last, Refused)
    assert "gzip" in last.error.detail
    assert whole[len(found) - 1].startswith(last.payload)


def test_a_corrupt_gzip_is_told(file: Path) -> None:
    """A file that only begins like gzip is one record that says so."""
    found = read(file, b"\x1f\x8b" + b"nonsense")
    assert len(found) == 1
    assert isinstance(found[0][1], Refused)
    assert found[0][1].payload


@given(st.lists(st.binary(max_size=20).filter(lambda b: b"\n" not in b), max_size=20), st.integers(1, 7))
def test_lines_do_not_depend_on_blocks(found: list[bytes], size: int) -> None:
    """However the bytes arrive, the lines are the same, and nothing is lost."""
    data = b"\n".join(found)
    blocks = [data[i : i + size] for i in range(0, len(data), size)]
    crlf = bool(found) and len(found) > 1 and found[0].endswith(b"\r")
    told = [(n, line.removesuffix(b"\r") if crlf else line) for n, line in enumerate(found, 1)]
    if not crlf and len(found) == 1 and found[0].endswith(b"\r"):
        told = [(1, found[0][:-1])]
    assert list(lines(iter(blocks))) == [(n, line) for n, line in told if line.strip()]


def test_an_array_within_an_object_is_read_element_by_element() -> None:
    """Also where something beside it cannot be decoded, and where it was cut off."""
    assert list(array(b'{"a": 1, "rows": [{"b": 2}, 3]}', "rows")) == [(1, b'{"b": 2}'), (2, b"3")]
    assert list(array(b'{"a": NaN, "rows": [{"b": NaN}, 3]}', "rows")) == [(1, b'{"b": NaN}'), (2, b"3")]
    (first, (number, rest)) = array(b'{"rows": [{"b": 2}, {"c', "rows")
    assert first == (1, b'{"b": 2}')
    assert isinstance(rest, Refused)
    assert (number, rest.payload) == (2, b'{"c')


@given(st.lists(st.recursive(st.none() | st.floats() | st.text(), lambda x: st.dictionaries(st.text(), x)), max_size=5))
def test_arrays_give_every_element(elements: list[object]) -> None:
    """Whatever JSON an array holds, NaN included, comes out element by element."""
    found = [json.loads(raw) if isinstance(raw, bytes) else raw for _, raw in array(json.dumps(elements).encode())]
    assert json.dumps(found) == json.dumps(elements)
