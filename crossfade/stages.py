"""The one list of stages, in the order of their start: for the supervisor, the board and docker-compose.yml."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.settings import Settings


@dataclass(frozen=True)
class Stage:
    """One process of the pipeline.

    `port_field` and `host_field` name the settings of its /metrics and /healthz. `lag`: it reads topics, and tells how
    far behind it is. `reader`: it asks the warehouse, which listens on the sink's loopback. `after_s`: how much later
    it is started, so that on a small machine the way of an event is ready first.
    """

    name: str
    module: str
    does: str
    port_field: str
    host_field: str = "stage_host"
    lag: bool = False
    reader: bool = False
    after_s: float = 0.0

    def address(self, settings: Settings) -> str:
        """Where this machine reaches /metrics and /healthz."""
        host = getattr(settings, self.host_field)
        return f"http://{'127.0.0.1' if host in ('', '0.0.0.0', '::') else host}:{getattr(settings, self.port_field)}"  # noqa: S104


STAGES: tuple[Stage, ...] = (
    Stage("sinks", "sinks", "loads the warehouse", "sink_metrics_port", lag=True),
    Stage("worker", "stream_processors", "windows, plays, alerts", "worker_metrics_port", lag=True),
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
