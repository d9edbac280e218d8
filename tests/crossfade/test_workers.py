"""Several workers: names, ports, and what the front door makes of them."""

from __future__ import annotations

import io
import socket
from pathlib import Path

from crossfade import ports
from crossfade.board import Board
from crossfade.observe import SILENT, Reading
from crossfade.pipeline import Pipeline
from crossfade.stages import STAGES, stages_of
from crossfade.watch import Watch
from schemas.settings import Settings


def test_one_worker_keeps_its_name() -> None:
    """Without --workers nothing changes."""
    assert stages_of(Settings(workers=1)) == STAGES


def test_each_worker_has_a_name_a_port_and_a_directory() -> None:
    """The other stages stand where they stood."""
    settings = Settings(workers=3, worker_metrics_port=9201)
    stages = {stage.name: stage for stage in stages_of(settings)}
    names = ["worker-1", "worker-2", "worker-3"]
    assert list(stages)[1:4] == names
    assert set(stages) - set(names) == {stage.name for stage in STAGES} - {"worker"}
    assert [stages[name].address(settings) for name in names] == [f"http://127.0.0.1:{9201 + n}" for n in range(3)]
    told = [dict(stages[name].environment(settings)) for name in names]
    assert [one["CROSSFADE_WORKER_NAME"] for one in told] == names
    assert [one["CROSSFADE_WORKER_METRICS_PORT"] for one in told] == ["9201", "9202", "9203"]
    assert not stages["sinks"].environment(settings)


def test_ports_in_a_row_are_free_together() -> None:
    """A taken port in the middle moves all of them."""
    first = ports.reserve(24000, 3)
    with socket.create_server(("127.0.0.1", first + 11)):
        found = ports.reserve(first + 10, 3)
    assert found > first + 11
    assert ports.reserve(found) == found + 3, "all three are held"


class Told:
    """Readings as an Observer gives them."""

    def __init__(self, readings: dict[str, Reading]) -> None:
        self._readings = readings

    def __getitem__(self, name: str) -> Reading:
        return self._readings.get(name, SILENT)


def test_alerts_are_those_of_the_worker_that_judges(tmp_path: Path) -> None:
    """A worker that has lost the merge still shows the alerts of that time; lag is the sum."""
    settings = Settings(data_dir=tmp_path, workers=2)
    had = Reading(True, 3, sums={"crossfade_alerts_open": 7}, next={"listening-events/0": 9})
    has = Reading(True, 4, sums={"crossfade_alerts_open": 1}, next={"window-partials/0": 5})
    other = Reading(True, 0)
    readings = {"worker-1": had, "worker-2": has} | {s.name: other for s in STAGES}
    pipeline = Pipeline(settings)
    pipeline.add_stages(stages_of(settings))
    watch = Watch(pipeline, None, Told(readings), Board(io.StringIO()), 0.0)  # type: ignore[arg-type]
    view = watch._view(1.0)
    assert view.alerts == 1
    assert "lag 7" in view.figures
    assert [row.name for row in view.rows][2:4] == ["worker-1", "worker-2"]
