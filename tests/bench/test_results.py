"""bench/RESULTS.md: a bench replaces its own section only."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import engines, results
from bench.engine_list import ENGINES

OLD = "# Results\n\n## One\n\nfirst\n\n| a |\n|---|\n\n## Two\n\nsecond, with ### inside\n\n## Three\n\nthird\n"


def test_only_its_own_section_changes(tmp_path: Path) -> None:
    """Every byte outside of the section stays."""
    file = tmp_path / "RESULTS.md"
    for heading, old in (("One", "first\n\n| a |\n|---|"), ("Two", "second, with ### inside"), ("Three", "third")):
        file.write_text(OLD)
        results.write(heading, "new\n\ntext", file)
        assert file.read_text() == OLD.replace(f"## {heading}\n\n{old}\n", f"## {heading}\n\nnew\n\ntext\n")


def test_new_section_goes_to_the_end(tmp_path: Path) -> None:
    """A bench that was never run before adds its section, and a missing file is begun."""
    file = tmp_path / "RESULTS.md"
    results.write("One", "first", file)
    results.write("Two", "second", file)
    assert file.read_text() == "# Results\n\n## One\n\nfirst\n\n## Two\n\nsecond\n"
    results.write("One", "again", file)
    assert file.read_text() == "# Results\n\n## One\n\nagain\n\n## Two\n\nsecond\n"


def test_heading_that_begins_like_another_is_another(tmp_path: Path) -> None:
    """`Two` is not `Two more`."""
    file = tmp_path / "RESULTS.md"
    file.write_text("# Results\n\n## Two more\n\nstays\n")
    results.write("Two", "new", file)
    assert "## Two more\n\nstays\n" in file.read_text()


@pytest.mark.parametrize("problem", [None, "3 rows missing"])
def test_report_says_what_was_right_wrong_and_skipped(problem: str | None) -> None:
    """A wrong engine says what is wrong, a skipped one says why."""
    ran = {"events_per_s": 10, "events_per_cpu_s": 9, "rss_mb": 8, "correct": problem is None, "problem": problem}
    rows = [
        {"engine": "crossfade", "config": "c", "guarantee": "effectively once", **ran},
        {"engine": "flink", "config": "f", "guarantee": "exactly once", "problem": "skipped: no JDK 17"},
    ]
    report = results.engines_report(rows, "command", 5, "batches")
    assert ("| yes |" if problem is None else "no: 3 rows missing") in report
    assert "skipped: no JDK 17" in report


def test_picture_is_an_svg_of_what_was_right(tmp_path: Path) -> None:
    """An engine whose output was wrong has no bar."""
    ran = {"guarantee": "g", "config": "", "problem": None}
    right = {"engine": "quick", "events_per_cpu_s": 5, "correct": True, **ran}
    wrong = {"engine": "sloppy", "events_per_cpu_s": 9, "correct": False, **ran}
    results.picture([right, wrong], tmp_path / "p.svg")
    drawn = (tmp_path / "p.svg").read_text()
    assert drawn.startswith("<svg")
    assert "quick" in drawn
    assert "sloppy" not in drawn


def test_ratios_and_picture_compare_the_same_input_only(tmp_path: Path) -> None:
    """A row whose input had more events in a minute stands in the table alone."""
    told = {
        "guarantee": "effectively once",
        "config": "",
        "problem": None,
        "correct": True,
        "events_per_s": 1,
        "rss_mb": 1,
    }
    figures = [("crossfade", 1, 606), ("crossfade-product", 1, 202), ("crossfade-product", 10, 303)]
    rows = [{**told, "engine": name, "density": density, "events_per_cpu_s": each} for name, density, each in figures]
    report = results.engines_report(rows, "command", 1, "batches")
    assert report.count("| crossfade-product |") == 2
    assert "crossfade does 3.00 times crossfade-product, effectively once (" in report
    results.picture(rows, tmp_path / "engines.svg")
    drawn = (tmp_path / "engines.svg").read_text()
    assert ">202<" in drawn
    assert ">303<" not in drawn


def test_rounds_go_there_and_back_and_tell_the_median() -> None:
    """Each engine runs once a round; the middle of its rows is told, but one that was wrong is never hidden."""
    assert [place for place, _ in engines.there_and_back(ENGINES[:3], 3)] == [0, 1, 2, 2, 1, 0, 0, 1, 2]
    rows = [{"correct": True, "events_per_cpu_s": each} for each in (5, 1, 3)]
    assert engines.median(rows) == rows[2]
    assert engines.median([*rows, {"correct": False, "events_per_cpu_s": 4}])["correct"] is False
    assert engines.median([*rows, {"problem": "skipped: no JDK"}])["problem"] == "skipped: no JDK"
