"""Whether the collector can take events, and which of the things it depends on is missing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from confluent_kafka import KafkaException, Producer

from producers.collector.keys import Keys
from schemas import kafka, topics
from schemas.problem import KafkaUnavailableError
from schemas.settings import Settings

READY = "ready"
_TIMEOUT_S = 1.0


class Readiness:
    """Asks each dependency; blocks for at most about a second each."""

    def __init__(self, settings: Settings, producer: Producer, keys: Keys) -> None:
        self._settings, self._producer, self._keys = settings, producer, keys

    def state(self) -> dict[str, Any]:
        """`ok`, and for each dependency `ready` or why it is not."""
        asked: dict[str, Callable[[], str]] = {"kafka": self._kafka, "keys": self._api_keys}
        if self._settings.schema_registry_url:
            asked["schema_registry"] = self._registry
        found = {name: ask() for name, ask in asked.items()}
        return {"ok": all(state == READY for state in found.values()), "stage": "collector", **found}

    def _kafka(self) -> str:
        try:
            known = self._producer.list_topics(timeout=_TIMEOUT_S).topics
        except KafkaException:
            return "does not answer"
        missing = [topic for topic in (topics.EVENTS, topics.DEAD_LETTERS) if topic not in known]
        return f"has no topic {' and no '.join(missing)}: run `crossfade topics apply`" if missing else READY

    def _api_keys(self) -> str:
        try:
            self._keys.refresh()
        except OSError as error:
            return f"cannot be read: {error}"
        return self._keys.problem or READY

    def _registry(self) -> str:
        registry = kafka.registry_of(self._settings)
        try:
            if registry is not None:
                registry.registry.compatibility(f"{topics.EVENTS}-value")
        except KafkaUnavailableError as error:
            return str(error)
        return READY
