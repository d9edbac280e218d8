"""The simulator's statistics are those of real listeners; the report says so, and draws it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from producers.simulator import reporting
from producers.simulator.report import Report, Target, report


@pytest.fixture(scope="module")
def found() -> Report:
    return report(seed=2, events=4_000_000)


def test_every_target_is_met(found: Report) -> None:
    """Each statistic is within its stated tolerance, with another seed than the one that is shown."""
    assert [target for target in found.targets if not target.ok] == []
    assert len({target.name for target in found.targets}) == len(found.targets) >= 20


def test_no_tolerance_hides_a_difference(found: Report) -> None:
    """A tolerance is small beside its target."""
    for target in found.targets:
        assert target.tolerance <= 0.5 * target.target, target.name


def test_the_report_is_printed_written_and_drawn(
    found: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A table on the terminal, the same as JSON, and a picture as SVG or PNG; status 0 when all is well."""
    monkeypatch.setattr("producers.simulator.report.report", lambda _seed: found)
    file, svg, png = tmp_path / "report.json", tmp_path / "report.svg", tmp_path / "report.png"
    assert reporting.reported(2, file, svg) == 0
    assert "Lamere 2014" in capsys.readouterr().out
    told = json.loads(file.read_text())
    assert told["ok"] is True
    assert [target["name"] for target in told["targets"]] == [target.name for target in found.targets]
    assert svg.read_text().startswith("<svg")
    assert reporting.reported(2, None, png) == 0
    assert png.read_bytes().startswith(b"\x89PNG")
    assert reporting.reported(2, None, tmp_path / "report.gif") == 1


def test_a_target_that_is_missed_is_told() -> None:
    """A value outside the tolerance is not ok."""
    assert Target("x", 10, 10.4, 0.5, "%", "").ok
    assert not Target("x", 10, 10.6, 0.5, "%", "").ok
