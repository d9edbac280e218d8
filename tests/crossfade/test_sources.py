"""What feeds a run, decided before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from crossfade.problem import ProblemError
from crossfade.sources import Options, source_of


def test_a_restarted_simulator_sends_the_same_events() -> None:
    """The start of event time is fixed in the command, so that a second attempt has the same event_ids."""
    source = source_of(Options(events=1000, seed=7))
    assert source is not None
    assert "--start" in source.command
    assert source.command[source.command.index("--seed") + 1] == "7"
    assert "--end-of-input" not in source.command


def test_a_replay_needs_no_simulator(tmp_path: Path) -> None:
    """Files are handed on with their full path, whatever directory the stages run in."""
    file = tmp_path / "a history.json"
    file.write_text("[]")
    source = source_of(Options(replay=(file,), until_drained=True, rate=50))
    assert source is not None
    assert source.command[2:] == ["producers.replay", str(file), "--rate", "50", "--end-of-input"]


def test_none_is_no_source() -> None:
    """--scenario none starts the stages alone."""
    assert source_of(Options(scenario="none", until_drained=True)) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (Options(scenario="napster"), "There is no scenario napster: take one of spotify"),
        (Options(until_drained=True), "--until-drained needs an end"),
        (Options(config=Path("x.yaml")), "--config is the file of --scenario custom"),
        (Options(scenario="custom", config=Path("/no/such.yaml")), "/no/such.yaml cannot be used"),
        (Options(replay=(Path("/no/such.jsonl"),)), "/no/such.jsonl cannot be read: No such file or directory"),
        (Options(replay=(Path("/"),)), "/ cannot be read: Is a directory"),
    ],
)
def test_a_source_that_cannot_work_is_refused_at_once(options: Options, message: str) -> None:
    """Nothing is started, downloaded or emptied for it."""
    with pytest.raises(ProblemError, match=message):
        source_of(options)
