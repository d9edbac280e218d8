"""How the pipeline on this machine is: asks every stage where endpoints.json says it is."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from crossfade import home, kafka
from crossfade.observe import SILENT, read
from crossfade.stages import stages_of
from schemas.settings import Settings


def status(settings: Settings) -> list[dict[str, Any]]:
    """One row per stage: name, state (up, unwell, down), lag, address and what it does."""
    stages = stages_of(settings)
    with ThreadPoolExecutor(len(stages)) as pool:
        readings = list(pool.map(lambda stage: read(stage.address(settings)), stages))
    where = settings.kafka_bootstrap_servers
    rows: list[dict[str, Any]] = [
        {
            "stage": "kafka",
            "state": "up" if where and kafka.answers(where) else "down",
            "address": where,
            "does": "the log of everything",
        }
    ]
    for stage, reading in zip(stages, readings, strict=True):
        state = "down" if reading is SILENT else "up" if reading.ok else "unwell"
        address = stage.address(settings)
        rows.append({"stage": stage.name, "state": state, "lag": reading.lag, "address": address, "does": stage.does})
    return rows


def current(settings: Settings) -> Settings:
    """The settings without the endpoints of a run that was killed."""
    if settings.endpoints_file.exists() and not home.is_held(settings.data_dir):
        settings.endpoints_file.unlink(missing_ok=True)
        return Settings()
    return settings
