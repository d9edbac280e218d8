"""Scenario files: the shipped ones are valid, and a wrong one is explained."""

from __future__ import annotations

from pathlib import Path

import pytest

from producers.simulator.scenario import NAMES, SHIPPED, ScenarioError, load

MINIMAL = """
platform: tiny
genres: {pop: 1}
countries: {DE: {weight: 1, cities: [Berlin]}}
devices: {mobile: 1}
app_versions: {"1": 1}
"""


@pytest.mark.parametrize("name", NAMES)
def test_shipped_scenarios_are_valid(name: str) -> None:
    """Every scenario that can be named can be loaded."""
    assert load(name).platform


def test_a_file_of_ones_own_needs_little(tmp_path: Path) -> None:
    """Only platform, genres, countries, devices and app versions have to be said."""
    file = tmp_path / "mine.yaml"
    file.write_text(MINIMAL)
    assert load("custom", file).platform == "tiny"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (MINIMAL.replace("pop", "polka"), "polka"),
        (MINIMAL + "behaviour: {skip: 2}", "behaviour.skip"),
        (MINIMAL + "behaviour: {skip: 0.9, pause: 0.9}", "at most 1"),
        (MINIMAL + "speed: 3", "speed"),
        (MINIMAL + "incidents: [{kind: drop, start: 0.1, end: 0.2, country: FR, magnitude: 0.5}]", "FR"),
        (MINIMAL + "incidents: [{kind: drop, start: 0.3, end: 0.2, country: DE, magnitude: 0.5}]", "end comes after"),
        (MINIMAL + "incidents: [{kind: surge, start: 0.1, end: 0.2, country: DE, magnitude: 0.5}]", "1.1 to 1000"),
        (MINIMAL + "incidents: [{kind: surge, start: 0.1, end: 0.2, magnitude: 2}]", "said with country"),
        (MINIMAL + "incidents: [{kind: flood, start: 0.1, end: 0.2, magnitude: 2}]", "known are drop"),
        (
            MINIMAL + "incidents: [{kind: lost_pauses, start: 0.1, end: 0.2, app_version: '2', magnitude: 1}]",
            "version 2",
        ),
        (MINIMAL + "behaviour: {skip_on: {watch: 0.5}}", "skip_on"),
        (MINIMAL.replace("weight: 1", "weight: 1, zone: Mars/Base"), "Mars/Base"),
        ("platform: [", "not YAML"),
        ("just text", "dictionary"),
        ("", "dictionary"),
        ("platform: \x00", "not YAML"),
    ],
)
def test_a_wrong_file_is_explained(tmp_path: Path, text: str, said: str) -> None:
    """The message names the file, the place and the rule."""
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(ScenarioError, match=said) as caught:
        load("custom", file)
    assert str(file) in str(caught.value)


def test_an_unknown_name_lists_the_known_ones() -> None:
    """Nobody has to guess."""
    with pytest.raises(ScenarioError, match="apple_music"):
        load("nope")


def test_a_missing_file_is_explained(tmp_path: Path) -> None:
    """A wrong path is told as such."""
    with pytest.raises(ScenarioError, match="No such file"):
        load("custom", tmp_path / "none.yaml")


def test_scenarios_stand_where_the_documents_say() -> None:
    """People copy them from producers/scenarios."""
    assert SHIPPED.parts[-2:] == ("producers", "scenarios")
