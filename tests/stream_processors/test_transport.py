"""The transport without a broker: record batches out of raw bytes, the guard, and quiet logs."""

from __future__ import annotations

import logging
from dataclasses import fields
from importlib import import_module
from typing import Any

import pytest
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from stream_processors.transport import guard
from stream_processors.transport.quiet import Throttle
from stream_processors.transport.records import BatchRecords
from tests.stream_processors.test_wire import COMPRESSIONS, batch, plain


def raw(count: int = 3, magic: int = 2) -> bytearray:
    builder = DefaultRecordBatchBuilder(magic, 0, 0, -1, -1, 0, 1 << 20)
    for i in range(count):
        builder.append(i, 1_000, b"k", b"v", [])
    return bytearray(builder.build())


def read(data: bytes, start: int = 0) -> list[Any]:
    return list(BatchRecords(None, data, [], start, None, None, True, 0))


def test_what_the_transport_relies_upon_is_there() -> None:
    """The guard passes with the pinned versions: this fails when one of them is changed without a look at it."""
    guard.check()


@pytest.mark.parametrize("part", guard.RELIED_UPON, ids=lambda part: part.place)
def test_a_method_that_is_gone_is_named(monkeypatch: pytest.MonkeyPatch, part: guard.Part) -> None:
    """Trap 13: private classes are used, so a library that changed one of them is refused at start, by name."""
    module, _, name = part.place.partition(":")
    for method in part.methods.keys() - {"__init__"}:
        with monkeypatch.context() as patch:
            patch.setattr(import_module(module), name, without(part.place, method))
            with pytest.raises(guard.ChangedLibraryError, match=rf"{part.place} has no {method}: install"):
                guard.check()
    with monkeypatch.context() as patch:
        patch.delattr(import_module(module), name)
        with pytest.raises(guard.ChangedLibraryError, match=rf"{part.place} is gone"):
            guard.check()


def without(place: str, method: str) -> Any:
    """A class like another, but for one method."""
    module, _, name = place.partition(":")
    wanted = next(part for part in guard.RELIED_UPON if part.place == place).methods
    original = getattr(import_module(module), name)
    kept = {key: getattr(original, key) for key in wanted if key != method}
    return type(name, (), kept)


@pytest.mark.parametrize(
    ("place", "change"),
    [
        ("aiokafka.consumer.fetcher:Fetcher", lambda self, assignment, node_id, request, more: None),
        ("aiokafka.consumer.fetcher:Fetcher", lambda self, assignment, request: None),
    ],
)
def test_other_parameters_are_named(monkeypatch: pytest.MonkeyPatch, place: str, change: Any) -> None:
    """A method that is called in another way than we know is refused, with both ways."""
    module, _, name = place.partition(":")
    monkeypatch.setattr(getattr(import_module(module), name), "_proc_fetch_request", change)
    with pytest.raises(
        guard.ChangedLibraryError, match=r"_proc_fetch_request with the parameters \(self assignment.*\), not"
    ):
        guard.check()


def test_an_attribute_that_is_gone_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """What objects carry is looked for where their class sets it."""
    part = guard.Part("aiokafka.consumer.fetcher:Fetcher", attributes=("_client", "_no_such_thing"))
    monkeypatch.setattr(guard, "RELIED_UPON", (part,))
    with pytest.raises(guard.ChangedLibraryError, match="Fetcher has no _no_such_thing: install"):
        guard.check()


def test_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trap 13: the message names package, version found, and version wanted."""
    monkeypatch.setitem(guard.PINNED, "aiokafka", "0.13.0")
    with pytest.raises(guard.ChangedLibraryError, match=r"aiokafka is 0\.14\.0, .* written for 0\.13\.0"):
        guard.check()


def test_a_broken_checksum_is_no_data() -> None:
    """Bytes that were damaged on their way are never handed out."""
    data = raw()
    data[-3] ^= 1
    with pytest.raises(CorruptRecordException, match="invalid CRC"):
        read(bytes(data))


def test_an_older_record_format_is_refused_by_name() -> None:
    """Format v0 and v1 are no Avro blocks; no broker of version 4 keeps them."""
    data = raw()
    data[16] = 1
    with pytest.raises(CorruptRecordException, match="record format 1"):
        read(bytes(data))


def test_the_cut_off_end_of_a_response_is_left_for_the_next() -> None:
    """The broker cuts the last batch where the response is full: what is whole is read, nothing is lost."""
    whole, second = raw(), raw()
    second[0:8] = (3).to_bytes(8, "big")
    for cut in (0, 1, 30, 61, len(second) - 1):
        found = read(bytes(whole + second[:cut]))
        assert [(part.start, part.next, part.count) for part in found] == [(0, 3, 3)]


def test_records_that_do_not_fill_their_batch_are_named() -> None:
    """Trap 8 and beyond: lengths that contradict one another (no broker takes that) end in one plain message."""
    from stream_processors import framing  # noqa: PLC0415

    good = batch([plain([b"a" * 100] * 3)]).parts[0]
    whole, head = bytes(good.whole), bytes(good.whole[:61])
    for damaged in (whole[:-1], whole + b"x", head + b"\x01" * 5, head, head + b"\xff" * 40):
        good.whole = memoryview(damaged)
        with pytest.raises(CorruptRecordException, match="offset 0"):
            framing.records([good])


@pytest.mark.parametrize("compression", ["gzip", "snappy", "lz4", "zstd"])
def test_what_waits_is_as_small_as_it_came(compression: str) -> None:
    """A fetched batch is unpacked only when it is read: backpressure would hold ten times the memory otherwise."""
    waiting = batch([plain([b"a" * 200] * 1000)], compression=COMPRESSIONS[compression]).parts[0]
    values = [getattr(waiting, field.name) for field in fields(waiting)]
    held = sum(len(value) for value in values if isinstance(value, bytes | memoryview))
    assert 10 * held < len(waiting.payload())


def test_a_storm_of_one_message_is_told_once_in_a_while() -> None:
    """Trap 14: during an outage the client writes 70 lines a second; one of each passes, and says how many did not."""
    now = [0.0]
    throttle = Throttle(every_s=30, clock=lambda: now[0])

    def told(message: str, *args: Any, name: str = "aiokafka") -> str | None:
        record = logging.LogRecord(name, logging.ERROR, "", 0, message, args, None)
        return record.getMessage() if throttle.filter(record) else None

    assert told("no node %s", 1) == "no node 1"
    for i in range(70):
        now[0] = i / 70
        assert told("no node %s", i) is None
    assert told("another thing") == "another thing"
    assert told("no node %s", 1, name="faust") == "no node 1"
    now[0] = 31.0
    assert told("no node %s", 5) == "no node 5 (70 more like this were left out)"
    now[0] = 62.0
    assert told("no node %s", 5) == "no node 5"
