"""A real schema registry: what it refuses, and that the pipeline lives on when it is away."""

from __future__ import annotations

import contextlib
import io
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastavro
import pytest

from crossfade import topics as crossfade_topics
from crossfade import writers
from crossfade.writers import SchemaError
from schemas import topics
from schemas.codec import Codec, schema
from schemas.kafka import KafkaUnavailableError, codec_of, registry_of
from schemas.reasons import BadRecordError, Reason
from schemas.registry import Registry, SchemaUnavailableError, registry_at
from schemas.settings import Settings
from schemas.writers import Prefix
from tests.pipeline.registry_server import RegistryServer

OURS = schema("listening_event")
MOOD = {"name": "mood", "type": ["null", "string"], "default": None}
EVENT: dict[str, Any] = {
    "event_id": "e1",
    "event_type": "play",
    "user_id": "ann",
    "track_id": "t1",
    "timestamp": 1_700_000_000_000,
    "platform": "custom",
    "tenant": "default",
    "source": "replay",
    "received_at": 1_700_000_000_000,
    "mood": "calm",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    """One registry for this file; it is stopped and started again."""
    found = RegistryServer(tmp_path_factory.mktemp("registry"))
    try:
        found.start()
        yield found
    finally:
        found.stop()


@pytest.fixture(autouse=True)
def fresh_clients() -> None:
    """Every test stands for a process of its own."""
    registry_at.cache_clear()


def settings_of(server: RegistryServer, data_dir: Path) -> Settings:
    return Settings(data_dir=data_dir, schema_registry_url=server.url, kafka_bootstrap_servers="")


def with_fields(*more: dict[str, Any]) -> dict[str, Any]:
    return {**OURS, "fields": [*OURS["fields"], *more]}


def written(avro: dict[str, Any], schema_id: int) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(avro), EVENT)
    return Prefix.confluent(schema_id).data + out.getvalue()


@pytest.mark.timeout(200)
def test_our_schemas_are_registered_under_a_strict_level(server: RegistryServer, tmp_path: Path) -> None:
    """The first start sets compatibility and registers every topic; the second finds everything as it should be."""
    settings = settings_of(server, tmp_path)
    done = writers.apply(settings)
    assert "set compatibility of listening-events-value: NONE to BACKWARD_TRANSITIVE" in done
    subjects = [f"{topic.name}-value" for topic in topics.topics(settings) if topic.schema]
    assert [line.split()[1] for line in done if line.startswith("registered")] == subjects
    assert writers.apply(settings) == []
    codec = codec_of(settings, topics.EVENTS)
    value = codec.encode(EVENT)
    assert value[0] == 0
    assert codec_of(settings, topics.EVENTS).decode(value)["event_id"] == "e1"
    assert Codec("listening_event").encode(EVENT)[10:] == value[5:]


def test_an_incompatible_schema_is_refused_and_says_why(server: RegistryServer, tmp_path: Path) -> None:
    """A newer schema that could not read what is stored is not registered."""
    settings = settings_of(server, tmp_path)
    writers.apply(settings)
    file = tmp_path / "new.avsc"
    file.write_text(json.dumps(with_fields({"name": "mood", "type": "string"})))
    with pytest.raises(SchemaError, match=r"refuses new.avsc as listening-events-value: .*mood"):
        writers.register(settings, file)
    assert not (tmp_path / "schemas" / "listening_event").exists()


@pytest.mark.timeout(200)
def test_our_own_schema_is_refused_where_it_could_not_read_what_is_stored(
    server: RegistryServer, tmp_path: Path
) -> None:
    """A subject that somebody else has filled: the start says which schema, which subject, and why."""
    other, subject = Registry(server.url), "anomaly-alerts-value"
    forget(server, subject)
    stored = {"type": "record", "name": "AnomalyAlert", "fields": [{"name": "observed", "type": "string"}]}
    other.register(subject, stored)
    with pytest.raises(SchemaError, match=r"refuses schemas/anomaly_alert.avsc as anomaly-alerts-value: .*(?i:compat)"):
        writers.apply(settings_of(server, tmp_path))
    with pytest.raises(KafkaUnavailableError, match="refused anomaly_alert as anomaly-alerts-value"):
        codec_of(settings_of(server, tmp_path), topics.ANOMALY_ALERTS)
    forget(server, subject)


def forget(server: RegistryServer, subject: str) -> None:
    """As if nobody had ever used the subject."""
    request = urllib.request.Request(f"{server.url}/subjects/{subject}", method="DELETE")
    with contextlib.suppress(urllib.error.HTTPError):
        urllib.request.urlopen(request, timeout=5).close()


def test_new_ids_are_looked_up_in_flight(server: RegistryServer, tmp_path: Path) -> None:
    """A client registers a newer schema and writes with it: a reader that runs already asks, and reads in columns."""
    settings = settings_of(server, tmp_path)
    writers.apply(settings)
    codec = codec_of(settings, topics.EVENTS)
    newer = with_fields(MOOD)
    schema_id = Registry(server.url).register("listening-events-value", newer)
    values = [written(newer, schema_id), codec.encode(EVENT)] * 2
    columns = codec.columns(values)
    assert (columns.frame["event_id"].to_list(), columns.bad, columns.singly) == (["e1"] * 4, [], 0)
    with pytest.raises(BadRecordError) as error:
        codec.decode(Prefix.confluent(4_000_000).data + values[1][5:])
    assert error.value.reason == Reason.UNKNOWN_SCHEMA


@pytest.mark.timeout(200)
def test_a_registry_that_is_away_stops_nothing_that_it_told_before(server: RegistryServer, tmp_path: Path) -> None:
    """Down at start and in flight: ids come from the disk, records of new ids wait, and are read when it is back."""
    settings = settings_of(server, tmp_path)
    writers.apply(settings)
    newer = with_fields(MOOD, {"name": "weather", "type": ["null", "string"], "default": None})
    schema_id = Registry(server.url).register("listening-events-value", newer)
    assert codec_of(settings, topics.EVENTS).decode(written(newer, schema_id))["event_id"] == "e1"
    newest = with_fields(MOOD, {"name": "humidity", "type": ["null", "int"], "default": None})
    newest_id = Registry(server.url).register("listening-events-value", newest)
    server.stop()
    registry_at.cache_clear()
    try:
        codec = codec_of(settings, topics.EVENTS)
        assert codec.encode(EVENT)[0] == 0
        assert codec.decode(written(newer, schema_id))["event_id"] == "e1"
        with pytest.raises(SchemaUnavailableError):
            codec.decode(written(newest, newest_id))
        assert writers.apply(settings) == [
            f"kept the ids that are remembered: The schema registry at {server.url} cannot be asked: "
            "it did not answer a moment ago."
        ]
        with pytest.raises(SchemaUnavailableError):
            codec_of(settings_of(server, tmp_path / "other"), topics.EVENTS)
    finally:
        server.start()
    registry_at.cache_clear()
    assert codec_of(settings, topics.EVENTS).decode(written(newest, newest_id))["event_id"] == "e1"
    registry = registry_of(settings)
    assert registry is not None
    assert set(registry.verdicts()) == {schema_id, newest_id}


@pytest.mark.timeout(200)
def test_topics_apply_registers_schemas_too(server: RegistryServer, kafka: Settings, tmp_path: Path) -> None:
    """One command makes topics and schemas right."""
    settings = kafka.model_copy(update={"schema_registry_url": server.url, "data_dir": tmp_path})
    assert any(line.startswith("registered listening-events-value as id") for line in crossfade_topics.apply(settings))
    assert crossfade_topics.apply(settings) == []
