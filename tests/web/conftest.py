"""A warehouse file with rows whose answers are known, and the page in front of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from schemas.settings import Settings
from warehouse.duck import open_file
from warehouse.schema import apply_duckdb

NEWEST = datetime(2026, 3, 14, 12, 0, tzinfo=UTC)

PLATFORMS = ("spotify", "apple_music", "youtube_music")
COUNTRIES = ("DE", "SE", "US", "BR", "JP", "FR")
DEVICES = ("mobile", "desktop", "speaker", "tv", None)
MOODS = ("happy", "energetic", "calm", "sad")
GENRES = ("pop", "rock", "hip-hop", "electronic", "jazz", "classical", "latin", "metal", "indie")
CONTEXTS = ("workout", "focus", "party", "commute", "relax")
TRACKS = 60


def make_warehouse(settings: Settings, rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """The warehouse file as the sink makes it, with these rows per table."""
    settings.duckdb_file.parent.mkdir(parents=True, exist_ok=True)
    with open_file(settings.duckdb_file, read_only=False) as connection:
        apply_duckdb(connection, settings.dataset)
        for name, found in rows.items():
            if found:
                connection.register("given", pl.DataFrame(found, infer_schema_length=None).to_arrow())
                connection.execute(f"INSERT INTO {name} BY NAME SELECT * FROM given")
                connection.unregister("given")


def event(n: int, kind: str, at: datetime, track: int, **more: Any) -> dict[str, Any]:
    """One row of `events`; user, platform, country and device follow from the numbers."""
    user = more.pop("user", n % 40)
    return {
        "event_id": f"e{n}-{kind}",
        "event_type": kind,
        "user_id": f"u{user}",
        "track_id": f"t{track}",
        "timestamp": at,
        "platform": PLATFORMS[user % 3],
        "country": COUNTRIES[user % 6],
        "device": DEVICES[user % 5],
        "track_name": None,
        "tenant": "default",
        "source": "simulator",
        "received_at": at,
        "is_late": False,
        "kafka_partition": 0,
        "kafka_offset": n,
        **more,
    }


def insight(track: int) -> dict[str, Any]:
    """One row of `track_insights`."""
    mood = track % len(MOODS)
    return {
        "insight_id": f"t{track}/x",
        "question_hash": "x",
        "track_id": f"t{track}",
        "tenant": "default",
        "mood_analysis": {
            "label": MOODS[mood],
            "valence": 0.5 + 0.4 * math.cos(track),
            "energy": 0.5 + 0.4 * math.sin(track * 1.7),
        },
        "genre_prediction": {"label": GENRES[track % len(GENRES)], "confidence": 0.8},
        "listening_context": CONTEXTS[track % len(CONTEXTS)],
        "similar_tracks": [f"t{(track + step) % TRACKS}" for step in (1, 2, 3, 5)],
        "engagement_score": (track % 10) / 10,
        "provenance": "rules",
        "model": "rules-1",
        "generated_at": NEWEST,
        "kafka_partition": 0,
        "kafka_offset": track,
    }


def alert(number: int, status: str, at: datetime) -> dict[str, Any]:
    """One row of `anomaly_alerts`."""
    return {
        "transition_id": f"a{number}/{status}",
        "alert_id": f"a{number}",
        "tenant": "default",
        "detector": "volume",
        "kind": "drop",
        "status": status,
        "severity": "critical",
        "series": "platform=spotify country=DE",
        "onset": at,
        "at": at,
        "observed": 3.0,
        "expected": 40.0,
        "score": 6.0,
        "evidence": "{}",
        "summary": "Events of spotify in DE fell to 3 a minute; 40 were expected.",
        "runbook": "ops/runbooks/volume.md",
        "kafka_partition": 0,
        "kafka_offset": number,
    }


def crowd(plays: int = 400, newest: datetime = NEWEST, minutes: int = 40) -> dict[str, list[dict[str, Any]]]:
    """Rows of a crowd: `plays` plays, every third one skipped, every tenth liked, every 25th shared."""
    events: list[dict[str, Any]] = []
    ended: list[dict[str, Any]] = []
    for n in range(plays):
        at = newest - timedelta(minutes=minutes) * (1 - (n + 1) / plays)
        track = int(TRACKS * ((n * 0.618) % 1) ** 2)
        events.append(event(n, "play", at, track))
        heard = 0.08 + 0.3 * ((n * 0.37) % 1) if n % 3 == 0 else 0.7 + 0.3 * ((n * 0.11) % 1)
        if n % 3 == 0:
            events.append(event(n, "skip", at, track))
        if n % 10 == 0:
            events.append(event(n, "like", at, track))
        if n % 25 == 0:
            events.append(event(n, "share", at, track))
        ended.append(
            {
                **{
                    k: events[-1][k]
                    for k in ("tenant", "source", "user_id", "track_id", "platform", "country", "device")
                },
                "play_id": f"e{n}-play",
                "started_at": at,
                "ended_at": at + timedelta(seconds=200 * heard),
                "ended_by": "skip" if n % 3 == 0 else "pause",
                "ms_played": int(200_000 * heard),
                "duration_ms": 200_000,
                "completion": heard,
                "is_stream": 200 * heard >= 30,
                "is_scrobble": heard >= 0.5,
                "kafka_partition": 0,
                "kafka_offset": n,
            }
        )
    tracks = [
        {
            "track_id": f"t{t}",
            "tenant": "default",
            "track_name": f"Song number {t}",
            "artist_name": f"The Artists {t % 12}",
            "first_seen_at": newest,
            "kafka_partition": 0,
            "kafka_offset": t,
        }
        for t in range(TRACKS)
    ]
    letters = [
        {
            "dead_letter_id": f"d{n}",
            "tenant": "default",
            "source": "simulator",
            "stage": "producers",
            "reason": "bad_timestamp" if n < 3 else "not_json",
            "detail": "timestamp: 'yesterday' - timestamp is ISO 8601 with a zone; the record is kept in dead-letters",
            "payload": b"{",
            "failed_at": newest,
            "kafka_partition": 0,
            "kafka_offset": n,
        }
        for n in range(4)
    ]
    loaded = len(events)
    ledger = [
        {
            "entry_id": "l1",
            "tenant": "default",
            "source": "simulator",
            "hour": newest.replace(minute=0),
            "accepted": loaded + 4 + 2,
            "loaded": loaded,
            "dead_lettered": 4,
            "deduplicated": 2,
            "committed_at": newest,
        }
    ]
    return {
        "events": events,
        "plays": ended,
        "tracks": tracks,
        "track_insights": [insight(t) for t in range(TRACKS)],
        "anomaly_alerts": [
            alert(1, "raised", newest - timedelta(minutes=9)),
            alert(2, "raised", newest - timedelta(minutes=30)),
            alert(2, "resolved", newest - timedelta(minutes=20)),
        ],
        "dead_letters": letters,
        "ledger": ledger,
    }


def settings_in(folder: Path, **more: Any) -> Settings:
    """Settings whose data lives in `folder`, and whose other stages do not run."""
    own = {"data_dir": folder, "sink_metrics_port": 9, "quack_port": 9, **more}
    return Settings(**own)


@pytest.fixture
def empty(tmp_path: Path) -> Settings:
    """A warehouse with tables and no rows."""
    settings = settings_in(tmp_path)
    make_warehouse(settings, {})
    return settings


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A warehouse with the rows of a crowd."""
    settings = settings_in(tmp_path_factory.mktemp("warehouse"))
    make_warehouse(settings, crowd())
    return settings
