"""The worker's page tells what a person on call asks first, and never fails on what is not known yet."""

from __future__ import annotations

from stream_processors.page import PartitionStatus, WorkerStatus, render

NOW_MS = 1_700_000_100_000


def status(*partitions: PartitionStatus, batches: int = 200, slow: int = 5) -> WorkerStatus:
    return WorkerStatus("worker-1", list(partitions), 1_000_000, 7, 3, batches, slow, 10, 5 << 20, 0.5, NOW_MS)


def test_lag_watermark_snapshot_age_and_slow_share_are_told() -> None:
    """Each in a unit that can be read at once."""
    one = PartitionStatus("listening-events", 2, 4_321, 1_234, NOW_MS - 90_000, NOW_MS - 700, 55)
    page = render(status(one))
    for text in ("listening-events/2", "1,234", "2023-11-14 22:13:30", "90.0 s", "0.7 s", "2.50 %", "50 ms", "5.0 MiB"):
        assert f">{text}<" in page


def test_a_worker_that_has_just_started_says_so() -> None:
    """No partition, no batch, no snapshot, no watermark: words instead of numbers."""
    assert "No partition" in render(status(batches=0, slow=0))
    page = render(status(PartitionStatus("window-partials", 0, 0, None, None, None, 0), batches=0, slow=0))
    assert page.count("not known yet") == 3
    assert "none yet" in page
    assert "none read yet" in page


def test_names_are_text_not_markup() -> None:
    """A name cannot put anything into the page."""
    assert "<script>" not in render(status(PartitionStatus("<script>", 0, 0, 0, None, None, 0)))
