"""Topics on a real broker."""

from __future__ import annotations

from confluent_kafka.admin import ConfigResource, ResourceType

from crossfade import topics
from schemas.kafka import admin, partitions_of
from schemas.settings import Settings
from schemas.topics import EVENTS, TRACK_INSIGHTS


def test_apply_is_idempotent(kafka: Settings) -> None:
    """A second apply finds nothing to do."""
    topics.apply(kafka)
    assert topics.apply(kafka) == []


def test_apply_repairs_configs_and_grows_partitions(own_kafka: Settings) -> None:
    """Changed retention and a larger number of partitions reach topics that exist; then nothing is left to do."""
    wanted = own_kafka.model_copy(update={"retention_hours": 48, "partitions": own_kafka.partitions + 1})
    done = topics.apply(wanted)
    assert any("retention.ms" in line for line in done)
    assert len(partitions_of(admin(own_kafka), EVENTS)) == own_kafka.partitions + 1
    assert topics.apply(wanted) == []


def test_insights_are_compacted(kafka: Settings) -> None:
    """The newest insight of a track is kept for ever."""
    resource = ConfigResource(ResourceType.TOPIC, TRACK_INSIGHTS)
    client = admin(kafka)
    configs = client.describe_configs([resource])[resource].result(10)
    assert configs["cleanup.policy"].value == "compact"
