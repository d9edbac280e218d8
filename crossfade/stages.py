"""The one list of stages, in the order of their start: for the supervisor, the board and docker-compose.yml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from schemas.settings import Settings


@dataclass(frozen=True)
class Stage:
    """One process of the pipeline.

    `port_field` and `host_field` name the settings of its /metrics and /healthz. `lag`: it reads topics, and tells how
    far behind it is. `reader`: it asks the warehouse, which listens on the sink's loopback. `after_s`: how much later
    it is started, so that on a small machine the way of an event is ready first. `number` tells one of several equal
    processes from the others: its port is so much above the setting.
    """

    name: str
    module: str
    does: str
    port_field: str
    host_field: str = "stage_host"
    lag: bool = False
    reader: bool = False
    after_s: float = 0.0
    number: int = 0

    def port(self, settings: Settings) -> int:
        """Where it serves /metrics and /healthz."""
        first: int = getattr(settings, self.port_field)
        return first + self.number

    def address(self, settings: Settings) -> str:
        """Where this machine reaches /metrics and /healthz."""
        host = getattr(settings, self.host_field)
        return f"http://{'127.0.0.1' if host in ('', '0.0.0.0', '::') else host}:{self.port(settings)}"  # noqa: S104

    def environment(self, settings: Settings) -> Mapping[str, str]:
        """What this process alone has to know."""
        if self.module != WORKER_MODULE or settings.workers == 1:
            return {}
        return {
            f"CROSSFADE_{self.port_field.upper()}": str(self.port(settings)),
            "CROSSFADE_WORKER_NAME": self.name,
        }


WORKER_MODULE = "stream_processors"

STAGES: tuple[Stage, ...] = (
    Stage("sinks", "sinks", "loads the warehouse", "sink_metrics_port", lag=True),
    Stage("worker", WORKER_MODULE, "windows, plays, alerts", "worker_metrics_port", lag=True),
    Stage(
        "collector", "producers.collector", "takes events over HTTP", "collector_port", "collector_host", after_s=0.5
    ),
    Stage("web", "web", "shows the answers", "web_port", "web_host", reader=True, after_s=1.0),
    Stage(
        "enrichment",
        "enrichment",
        "mood and genre of tracks",
        "enrichment_metrics_port",
        lag=True,
        reader=True,
        after_s=2.0,
    ),
)


def stages_of(settings: Settings) -> tuple[Stage, ...]:
    """The stages of a run on this machine: several workers stand as worker-1, worker-2, ... in the place of one."""
    found: list[Stage] = []
    for stage in STAGES:
        if stage.module == WORKER_MODULE and settings.workers > 1:
            found += [replace(stage, name=f"{stage.name}-{n + 1}", number=n) for n in range(settings.workers)]
        else:
            found.append(stage)
    return tuple(found)


SOURCE_PORT_FIELD = "simulator_metrics_port"
"""Where the simulator or the replay serves /metrics and /healthz."""

INTERNAL_PORT_FIELDS = (
    "worker_metrics_port",
    "sink_metrics_port",
    "enrichment_metrics_port",
    SOURCE_PORT_FIELD,
    "quack_port",
)
"""Ports that only our own processes use: they move when they are taken."""
