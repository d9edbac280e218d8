"""A short run of the fuzz; `python -m tests.faults.fuzz --messages 1000000` is the long one."""

from __future__ import annotations

import pytest

from tests.faults.fuzz import Fuzz

MUTATED = 40_000


@pytest.mark.timeout(280)
def test_mutated_messages() -> None:
    """Each is refused with a reason or proven valid by fastavro; no neighbour changes; worker and sink judge alike."""
    fuzz = Fuzz(seed=20)
    while fuzz.tally.mutated < MUTATED:
        fuzz.batch()
    assert fuzz.tally.healthy > MUTATED / 4
    assert 0 < fuzz.tally.valid < fuzz.tally.mutated
    assert fuzz.tally.corrupt > 10
    assert {"unknown_schema", "broken_record", "valid"} == set(fuzz.tally.reasons)
