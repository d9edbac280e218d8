"""`crossfade chaos` as a person runs it, small."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.long
@pytest.mark.timeout(400)
def test_a_small_campaign(tmp_path: Path) -> None:
    """Every stage is killed once, nothing is lost or doubled, nothing is left behind or touched."""
    result, report, own = tmp_path / "result.json", tmp_path / "faults.md", tmp_path / "own"
    answer = subprocess.run(
        [
            *(sys.executable, "-m", "crossfade", "chaos", "--events", "50000", "--kills", "6", "--seed", "3"),
            *("--json", str(result), "--report", str(report)),
        ],
        cwd=ROOT,
        env={**os.environ, "CROSSFADE_DATA_DIR": str(own), "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=380,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr + answer.stdout
    told = json.loads(result.read_text())
    assert {name: told[name] for name in ("events", "faults", "kills", "lost", "doubled")} == {
        "events": 50_000,
        "faults": 7,
        "kills": 6,
        "lost": 0,
        "doubled": 0,
    }
    assert 0 < told["longest_pause_s"] < 60
    assert "| kill -9 | kafka | 1 |" in report.read_text()
    assert not own.exists()
    assert not list(tmp_path.glob("crossfade-chaos-*"))
