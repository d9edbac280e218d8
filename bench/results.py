"""bench/RESULTS.md, one section per bench, and the picture: each writer replaces its own part only."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

RESULTS = Path(__file__).parent / "RESULTS.md"
PICTURE = Path(__file__).parent / "engines.svg"
_TITLE = "# Results\n"


def write(heading: str, text: str, file: Path = RESULTS) -> None:
    """Replaces the section `## heading`, or adds it at the end; every other byte stays."""
    old = file.read_text() if file.exists() else _TITLE
    section = f"## {heading}\n\n{text.strip()}\n"
    found = re.search(rf"^## {re.escape(heading)}\n.*?(?=^## |\Z)", old, re.MULTILINE | re.DOTALL)
    if found is None:
        file.write_text(old.rstrip("\n") + "\n\n" + section)
        return
    after = old[found.end() :]
    file.write_text(old[: found.start()] + section + ("\n" + after if after else ""))


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; columns after the first whose cells are figures stand to the right."""
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return "\n".join([*lines, *(f"| {' | '.join(map(str, row))} |" for row in rows)])


def machine() -> str:
    """What was measured on, in words: cores and memory."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = psutil.virtual_memory().total / (1 << 30)
    return f"{cores} cores shared with the broker, {memory:.0f} GB, Python {platform.python_version()}"


def engine_line(row: dict[str, Any]) -> str:
    """One engine on the terminal."""
    name = f"{row['engine']:18} "
    if "correct" not in row:
        return f"{name}{row['problem']}"
    figures = f"{row['events_per_s']:>10,}/s {row['events_per_cpu_s']:>10,}/CPU-s {row['rss_mb']:>6} MB"
    return f"{name}{figures}  {row['problem'] or 'correct'}  ({row['config']})"


def engines_report(rows: Sequence[dict[str, Any]], command: str, events: int, batches: str) -> str:
    """The section of bench.engines."""
    cells = []
    for row in rows:
        if "correct" not in row:
            cells.append([row["engine"], "", "", "", row["problem"], row["guarantee"], row["config"]])
            continue
        judged = "yes" if row["correct"] else f"no: {row['problem']}"
        figures = [f"{row[name]:,}" for name in ("events_per_s", "events_per_cpu_s", "rss_mb")]
        cells.append([row["engine"], *figures, judged, row["guarantee"], row["config"]])
    head = ["engine", "events/s", "events per CPU-second", "peak memory (MB)", "correct", "guarantee", "configuration"]
    return "\n\n".join(
        [
            f"`{command}`: {machine()}.",
            f"{events:,} listening events of 200 bytes in 4 partitions of a real Kafka ({batches}), keyed by user. "
            "Job: decode Avro, count by event type and add up ms_played per track and minute of event time, snapshot "
            "the state every second, write each final window to a topic. Rates from a tenth of the input consumed to "
            "the last output; CPU and memory of the engine's own processes, without the broker, whose JVM those of our "
            "own engines that take part have warmed up before. The JVM engines warm up within the measured time: "
            "`--events 8000000` makes that small. Every row of every output was compared with a batch oracle. Of "
            "several rounds, which go there and back, a row is the median by CPU-second. A row whose input had more "
            "events in a minute of event time is in no ratio and not in the picture.",
            table(head, cells),
            *_ratios(rows),
            "![Events per CPU-second](engines.svg)",
        ]
    )


def _comparable(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of engines that had the same input, but for its length."""
    return [row for row in rows if row.get("density", 1) == 1]


def _ratios(rows: Sequence[dict[str, Any]]) -> list[str]:
    best: dict[str, float] = {}
    for row in _comparable(rows):
        if row.get("correct"):
            name = f"{row['engine']}, {row['guarantee']}"
            best[name] = max(best.get(name, 0), row["events_per_cpu_s"])
    ours = best.get("crossfade, effectively once")
    if not ours or len(best) == 1:
        return []
    others = [f"{ours / value:.2f} times {name}" for name, value in best.items() if value and value != ours]
    return [f"Per CPU-second crossfade does {'; '.join(others)} (the best configuration of each)."]


def picture(rows: Sequence[dict[str, Any]], file: Path = PICTURE) -> None:
    """Draws events per CPU-second as bars, the best configuration of each engine and guarantee."""
    import vl_convert  # noqa: PLC0415 - takes a second to load

    best: dict[str, dict[str, Any]] = {}
    for row in _comparable(rows):
        name = f"{row['engine']} ({row['guarantee']})"
        if row.get("correct") and row["events_per_cpu_s"] > best.get(name, {}).get("value", 0):
            best[name] = {
                "engine": name,
                "value": row["events_per_cpu_s"],
                "ours": row["engine"].startswith("crossfade"),
            }
    if not best:
        return
    y = {"field": "engine", "type": "nominal", "sort": "-x", "title": None, "axis": {"labelLimit": 400}}
    x = {"field": "value", "type": "quantitative", "title": "events per CPU-second", "axis": {"format": "~s"}}
    color = {"condition": {"test": "datum.ours", "value": "#1f6f54"}, "value": "#9aa5a0"}
    label = {"type": "text", "align": "left", "dx": 4}
    spec = {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "width": 520,
        "height": {"step": 26},
        "background": "white",
        "data": {"values": list(best.values())},
        "encoding": {"y": y, "x": x},
        "layer": [
            {"mark": "bar", "encoding": {"color": color}},
            {"mark": label, "encoding": {"text": {"field": "value", "format": ",.0f"}}},
        ],
    }
    file.write_text(vl_convert.vegalite_to_svg(json.dumps(spec)))
