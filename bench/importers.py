"""Importing a listening history, next to a plain reading of the same files, in turns within one process.

`python -m bench.importers [--rows N] [--rounds N] [--no-kafka]`
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from bench import results
from bench.cluster import cluster
from crossfade import topics
from producers.importers.__main__ import Import
from producers.importers.transfer import ToKafka, ToLines
from producers.packed_door import PackedDoor

_ROWS_A_FILE = 16_000
"""Rows in each file of a real export, which has files of 12 MB."""

_BEGAN = datetime(2016, 1, 1, tzinfo=UTC)
_SHORT_MS = 30_000


class PlainRow(BaseModel):
    """A row as one would first write it down."""

    ts: datetime
    ms_played: int
    platform: str | None = None
    conn_country: str | None = None
    master_metadata_track_name: str | None = None
    master_metadata_album_artist_name: str | None = None
    master_metadata_album_album_name: str | None = None
    spotify_track_uri: str | None = None
    reason_start: str | None = None
    reason_end: str | None = None
    shuffle: bool | None = None
    skipped: bool | None = None
    offline: bool | None = None
    incognito_mode: bool | None = None


def history(rows: int) -> Iterator[dict[str, Any]]:
    """Rows of a Spotify extended history: 20,000 tracks by 2,000 artists, one listen after the other."""
    rnd, at = random.Random(1), _BEGAN
    for _ in range(rows):
        track, ms_played = rnd.randrange(20_000), rnd.randrange(1_000, 300_000)
        at += timedelta(seconds=ms_played // 1000 + rnd.randrange(30))
        began_s = int(at.timestamp()) - ms_played // 1000 - 1
        yield {
            "ts": at.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "platform": rnd.choice(("android", "ios", "Windows 10 (10.0.19045; x64)")),
            "ms_played": ms_played,
            "conn_country": "DE",
            "ip_addr": "203.0.113.7",
            "master_metadata_track_name": f"A title of common length {track}",
            "master_metadata_album_artist_name": f"The Artists {track % 2_000}",
            "master_metadata_album_album_name": f"Album {track % 6_000} (Deluxe Edition)",
            "spotify_track_uri": f"spotify:track:{track:022d}",
            "episode_name": None,
            "episode_show_name": None,
            "spotify_episode_uri": None,
            "audiobook_title": None,
            "audiobook_uri": None,
            "audiobook_chapter_uri": None,
            "audiobook_chapter_title": None,
            "reason_start": "trackdone",
            "reason_end": rnd.choice(("trackdone", "trackdone", "fwdbtn")),
            "shuffle": True,
            "skipped": rnd.choice((True, False, None)),
            "offline": False,
            "offline_timestamp": began_s,
            "incognito_mode": False,
        }


def write(folder: Path, rows: int) -> None:
    """The history as Spotify sends it: several files, indented."""
    told = list(history(rows))
    for number, first in enumerate(range(0, rows, _ROWS_A_FILE)):
        file = folder / f"Streaming_History_Audio_{number:03}.json"
        file.write_text(json.dumps(told[first : first + _ROWS_A_FILE], indent=2))


def plainly(folder: Path, output: Path) -> None:
    """json.load, a pydantic model, dicts and json.dumps, row by row."""
    with output.open("w") as lines:
        for file in sorted(folder.iterdir()):
            with file.open() as opened:
                rows = json.load(opened)
            for raw in rows:
                row = PlainRow.model_validate(raw)
                stop_ms = int(row.ts.timestamp() * 1000)
                identity = f"me/{stop_ms}/{row.spotify_track_uri}/{row.ms_played}"
                event_id = hashlib.sha256(identity.encode()).hexdigest()[:32]
                skipped = row.reason_end in ("fwdbtn", "backbtn")
                shared = {
                    "user_id": "me",
                    "track_id": row.spotify_track_uri,
                    "platform": "spotify",
                    "country": row.conn_country,
                    "shuffle": row.shuffle,
                    "offline": row.offline,
                    "incognito": row.incognito_mode,
                }
                play = {
                    **shared,
                    "event_id": f"{event_id}-play",
                    "event_type": "play",
                    "timestamp": stop_ms - row.ms_played,
                    "track_name": row.master_metadata_track_name,
                    "artist_name": row.master_metadata_album_artist_name,
                    "album_name": row.master_metadata_album_album_name,
                    "reason_start": row.reason_start,
                }
                end = {
                    **shared,
                    "event_id": f"{event_id}-end",
                    "event_type": "skip" if skipped else "pause",
                    "timestamp": stop_ms,
                    "ms_played": row.ms_played,
                    "reason_end": row.reason_end,
                }
                lines.write(json.dumps(play) + "\n" + json.dumps(end) + "\n")


def imported(folder: Path, output: Path) -> None:
    """`crossfade import FOLDER --output FILE`, without the start of the process."""
    job = Import([folder], "")
    with output.open("wb") as file:
        lines = ToLines(file)
        job.carry(job.histories(), lines, lambda: False)
        lines.flush()


def listens(output: Path) -> list[tuple[Any, ...]]:
    """What both must agree on: who ended what, when, how, after how long; and names of the track."""
    names: dict[str, tuple[Any, ...]] = {}
    found = []
    with output.open() as lines:
        for line in lines:
            event = json.loads(line)
            listen = event["event_id"].rsplit("-", 1)[0]
            if event["event_type"] == "play":
                names[listen] = (event["track_name"], event["artist_name"], event["album_name"])
            else:
                told = (event[name] for name in ("user_id", "track_id", "timestamp", "event_type", "ms_played"))
                found.append((*told, *names[listen]))
    return found


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def into_kafka(folder: Path) -> float:
    """Seconds until a real Kafka has acknowledged everything; the compiled loops are loaded before, by one listen."""
    with cluster() as here:
        topics.apply(here.settings)
        door = PackedDoor(here.settings, "import")

        def stopped() -> bool:
            door.report()
            return False

        def send(path: Path = folder) -> None:
            job = Import([path], "")
            job.carry(job.histories(), ToKafka(door), stopped)
            door.flush()

        first = here.settings.data_dir / "first.json"
        first.write_text(json.dumps(list(history(1))))
        send(first)
        took = seconds(send)
        door.close()
        return took


def main() -> None:
    """Measures, compares what came out, and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-kafka", action="store_true")
    options = parser.parse_args()
    rows = options.rows
    with tempfile.TemporaryDirectory() as directory:
        folder, ours, theirs = (Path(directory, name) for name in ("export", "ours.jsonl", "plain.jsonl"))
        folder.mkdir()
        write(folder, rows)
        took = [
            (seconds(lambda: imported(folder, ours)), seconds(lambda: plainly(folder, theirs)))
            for _ in range(options.rounds)
        ]
        if listens(ours) != listens(theirs):
            raise SystemExit("The plain reading tells other listens: nothing is measured.")
        kafka_s = None if options.no_kafka else into_kafka(folder)
    report(rows, options.rounds, took, kafka_s)


def report(rows: int, rounds: int, took: list[tuple[float, float]], kafka_s: float | None) -> None:
    """Writes the section and prints it."""
    ratios = [plain / own for own, plain in took]
    own_s, plain_s = (statistics.median(found) for found in zip(*took, strict=True))
    cells = [
        ["plain: json.load, pydantic, json.dumps, row by row", f"{rows / plain_s:,.0f}", "1"],
        [
            f"crossfade import --output, median of {rounds} rounds (least to most)",
            f"{rows / own_s:,.0f}",
            f"{statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})",
        ],
    ]
    if kafka_s is not None:
        cells.append(["crossfade import, acknowledged by Kafka", f"{rows / kafka_s:,.0f}", f"{plain_s / kafka_s:.1f}"])
    text = "\n\n".join(
        [
            f"`python -m bench.importers --rows {rows} --rounds {rounds}`: {results.machine()}.",
            f"{rows:,} rows of a Spotify extended history in files of {_ROWS_A_FILE:,}, each row two events; one "
            "process, in turns. The plain reading neither finds the format nor duplicates, and judges no rule but "
            "types; both told the same listens.",
            results.table(["", "rows/s", "ratio"], cells),
        ]
    )
    results.write("Importers", text)
    print(text)


if __name__ == "__main__":
    main()
