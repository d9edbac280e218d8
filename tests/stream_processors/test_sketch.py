"""Sketches of distinct users: the estimate is within the stated error, and DataSketches reads and merges them."""

from __future__ import annotations

import datasketches
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_processors.sketch import coupons, estimate, sketches, stable_hashes, united

ERROR = 1.04 / 64
"""Relative standard error of 4,096 registers."""


def sketch_of(ids: list[str]) -> bytes:
    many = coupons(stable_hashes(pl.Series(ids, dtype=pl.String)))
    return sketches(each_alone(pl.Series([many.tolist()], dtype=pl.List(pl.UInt32))))[0]


def each_alone(lists: pl.Series) -> pl.Series:
    return united(lists, np.arange(len(lists), dtype=np.int32), len(lists))


def people(count: int, seed: int = 0) -> list[str]:
    words = np.random.default_rng(seed).integers(0, 2**63, (count, 2))
    return [f"{a:016x}{b:016x}" for a, b in words.tolist()]


@pytest.mark.parametrize("count", [0, 1, 8, 9, 100, 384, 385, 1_000, 10_000, 200_000])
def test_the_estimate_is_within_four_standard_errors(count: int) -> None:
    """Up to 384 users the number is right; above, it errs by 1.6 % as a rule."""
    found = estimate(sketch_of(people(count)))
    assert found == count if count <= 384 else abs(found - count) <= 4 * ERROR * count


def test_sketches_merge_as_sets_do() -> None:
    """The union of two sketches in DataSketches' own code counts a user of both once."""
    everybody = people(30_000)
    union = datasketches.hll_union(12)
    for ids in (everybody[:20_000], everybody[10_000:]):
        union.update(datasketches.hll_sketch.deserialize(sketch_of(ids)))
    assert abs(union.get_result().get_estimate() - 30_000) <= 4 * ERROR * 30_000


def test_long_and_short_lists_stand_side_by_side() -> None:
    """Only long lists are reduced, each in its place; their estimate stays."""
    sizes = [50_000, 3, 0, 20_000]
    lists = [coupons(stable_hashes(pl.Series(people(size, size), dtype=pl.String))).tolist() for size in sizes]
    found = each_alone(pl.Series([*lists, None], dtype=pl.List(pl.UInt32)))
    assert [len(one) for one in found][1:3] == [3, 0]
    assert len(found[4]) == 0
    estimates = [estimate(sketch) for sketch in sketches(found[:4])]
    assert all(abs(e - size) <= 4 * ERROR * size for e, size in zip(estimates, sizes, strict=True))
    assert max(len(one) for one in found[:4]) <= 4096


@given(st.lists(st.text(max_size=40), max_size=30))
@settings(deadline=None)
def test_a_hash_depends_on_the_id_alone(ids: list[str]) -> None:
    """Pseudonyms and other ids side by side hash as each does alone."""
    mixed = [*ids, *people(3)]
    alone = [int(stable_hashes(pl.Series([one]))[0]) for one in mixed]
    assert stable_hashes(pl.Series(mixed, dtype=pl.String)).tolist() == alone


def test_hashes_never_change() -> None:
    """Sketches that are in warehouses already must merge with tomorrow's."""
    known = stable_hashes(pl.Series(["0123456789abcdef" * 2, "ann"])).tolist()
    assert known == [3_692_300_135_195_305_143, 11_957_940_740_637_538_957]
