"""Codes number texts as a dict would, however they come; places come in the order of their codes."""

from __future__ import annotations

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_processors import frames
from stream_processors.codes import Codes, Hashes, hashes, ordered

names = st.sampled_from([None, "", "a", "b", "a text of more than twelve bytes", "another text of more than twelve"])
batches = st.lists(st.lists(st.tuples(names, names), max_size=40), max_size=8)


@given(batches)
@settings(max_examples=200, deadline=None)
def test_pairs_of_texts_are_numbered_as_they_come(batches: list[list[tuple[str | None, str | None]]]) -> None:
    """Each pair has one code, from 0 on; the first row of a new code is told."""
    codes, known = Codes(), dict[tuple[str | None, str | None], int]()
    for batch in batches:
        frame = pl.DataFrame(batch, schema={"tenant": pl.String, "track_id": pl.String}, orient="row")
        before = len(known)
        wanted = [known.setdefault(pair, len(known)) for pair in batch]
        found, first = codes.of(hashes(frame, frame.columns))
        assert found.tolist() == wanted
        assert [wanted[place] for place in first] == list(range(before, len(known)))
        assert frames.owned(frame).equals(frame)
    assert len(codes) == len(known)


def test_a_collision_of_one_hash_is_none() -> None:
    """Keys that share the first hash, or the last bits of it, are told apart; so are many."""
    many = np.arange(20_000, dtype=np.uint64)
    same = Hashes(np.full(300, 7, np.uint64), many[:300])
    assert Codes().of(same)[0].tolist() == list(range(300))
    codes = Codes()
    for at in range(0, len(many), 1_999):
        codes.of(Hashes(many[at : at + 1_999] << np.uint64(20), many[at : at + 1_999]))
    assert codes.of(Hashes(many << np.uint64(20), many))[0].tolist() == many.tolist()


@given(st.lists(st.integers(0, 9), max_size=60))
@settings(deadline=None)
def test_places_are_ordered_by_code(codes: list[int]) -> None:
    """A stable sort, with the end of each code."""
    order, ends = ordered(np.array(codes, np.int32), 10)
    assert order.tolist() == sorted(range(len(codes)), key=lambda place: codes[place])
    assert ends.tolist() == [sum(code <= one for code in codes) for one in range(10)]
