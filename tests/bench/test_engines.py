"""`python -m bench.engines` on a real Kafka, short."""

from __future__ import annotations

import json
from pathlib import Path

from bench import engines


def test_short_run_is_right(tmp_path: Path) -> None:
    """The worker and plain librdkafka read the same input, and every row of the output is right."""
    found = tmp_path / "found.json"
    status = engines.main(
        ["--events", "20000", "--engines", "crossfade,librdkafka", "--json", str(found), "--no-results"]
    )
    rows = json.loads(found.read_text())
    assert [(row["engine"], row["correct"]) for row in rows] == [("librdkafka", True), ("crossfade", True)]
    assert status == 0
    for row in rows:
        assert set(row) == {
            "engine",
            "config",
            "events_per_s",
            "events_per_cpu_s",
            "rss_mb",
            "correct",
            "guarantee",
        }
        assert row["rss_mb"] > 20
