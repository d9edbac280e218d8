"""The one list of settings, topics, tables and metrics holds together."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from schemas import metrics
from schemas.codec import schema
from schemas.settings import Settings
from schemas.tables import TABLES
from schemas.topics import topics

ROOT = Path(__file__).parents[2]


def test_every_topic_with_records_is_a_table_and_carries_the_tenant() -> None:
    """Several customers can share an installation: every record and every row says whose it is."""
    loaded = {table.topic for table in TABLES if table.topic}
    assert loaded == {topic.name for topic in topics(Settings()) if topic.schema}
    for table in TABLES:
        assert "tenant" in {column.name for column in table.columns}, table.name
        assert {table.id, table.time, *table.cluster} <= {column.name for column in table.columns}


def test_every_field_of_a_schema_is_described() -> None:
    """Docs and column descriptions come from the schemas."""
    for topic in topics(Settings()):
        if topic.schema:
            assert all(field["doc"] for field in schema(topic.schema)["fields"])


def test_metric_names_follow_prometheus() -> None:
    """All metrics are ours by name, and seconds and bytes are named by their unit."""
    names = {m.name for m in REGISTRY.collect() if m.name.startswith("crossfade_")}
    assert len(names) > 20
    assert not [name for name in names if name.endswith(("_ms", "_kb", "_count"))]
    assert metrics.ACCEPTED._name == "crossfade_events_accepted"


def test_precedence_of_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arguments beat the environment, which beats the endpoints of the running pipeline, which beat the defaults."""
    (tmp_path / "endpoints.json").write_text(json.dumps({"kafka_bootstrap_servers": "run:1", "web_port": 5}))
    monkeypatch.setenv("CROSSFADE_DATA_DIR", str(tmp_path))
    monkeypatch.delenv("KAFKA_BOOTSTRAP_SERVERS", raising=False)
    assert Settings().kafka_bootstrap_servers == "run:1"
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "mine:1")
    assert (Settings().kafka_bootstrap_servers, Settings().web_port) == ("mine:1", 5)
    assert Settings(web_port=7).web_port == 7


def test_secrets_are_not_shown() -> None:
    """Settings may be printed: keys stay hidden."""
    shown = repr(Settings(anthropic_api_key="sk-secret", pseudonym_secrets={"default": "hush"}))
    assert "sk-secret" not in shown and "hush" not in shown
