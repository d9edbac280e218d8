"""Snapshots in a changelog: the manifest is the commit, and only what changed is written."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from stream_processors.segment import Segment
from stream_processors.snapshots import PIECE_BYTES, Snapshots


class Changelog:
    """A table whose changelog can be cut anywhere, as a worker that dies leaves it."""

    def __init__(self, records: list[tuple[str, bytes | None]] | None = None) -> None:
        self.log = records or []
        self.data = {}
        for key, value in self.log:
            self.data.pop(key, None) if value is None else self.data.update({key: value})

    def send_changelog(self, partition: int, key: str, value: bytes | None) -> asyncio.Future[None]:
        self.log.append((key, value))
        done = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done


def segments(contents: dict[str, bytes]) -> dict[str, Segment]:
    return {name: Segment(data, lambda data=data: data) for name, data in contents.items()}


async def save(table: Any, states: list[dict[str, bytes]]) -> list[int]:
    snapshots = Snapshots(table, "v1")
    return [await snapshots.save(0, {"next": i + 1}, segments(state)) for i, state in enumerate(states)]


@given(
    st.lists(st.dictionaries(st.sampled_from("abcd"), st.binary(max_size=9), max_size=4), min_size=1), st.integers(0)
)
@settings(max_examples=200, deadline=None)
def test_a_worker_that_dies_anywhere_leaves_the_old_or_the_new_state(states: list[dict[str, bytes]], cut: int) -> None:
    """Every prefix of the changelog is a whole snapshot."""
    table = Changelog()
    asyncio.run(save(table, states))
    survivor = Snapshots(Changelog(table.log[: cut % (len(table.log) + 1)]), "v1")
    header, found = survivor.load(0)
    assert found == (states[header["next"] - 1] if header else {})


def test_unchanged_segments_are_not_written_again() -> None:
    """The second snapshot writes only the segment that changed and the manifest."""
    table = Changelog()
    asyncio.run(save(table, [{"big": b"x" * 10_000, "small": b"1"}, {"big": b"x" * 10_000, "small": b"2"}]))
    written = [len(value) for _, value in table.log if value is not None]
    assert written.count(10_000) == 1


def test_a_segment_larger_than_a_record_is_kept_in_pieces() -> None:
    """State may outgrow the largest record that the broker takes."""
    table, state = Changelog(), {"large": bytes(PIECE_BYTES * 2 + 1)}
    asyncio.run(save(table, [state]))
    assert max(len(value or b"") for _, value in table.log) <= PIECE_BYTES
    assert Snapshots(table, "v1").load(0)[1] == state


def test_a_state_that_cannot_be_used_is_built_again() -> None:
    """The layout of another release, or a manifest with a missing segment, counts as no state."""
    table = Changelog()
    asyncio.run(save(table, [{"a": b"1"}]))
    assert Snapshots(table, "v2").load(0) == ({}, {})
    del table.data["0/a/1/0"]
    assert Snapshots(table, "v1").load(0) == ({}, {})
