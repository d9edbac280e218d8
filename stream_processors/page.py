"""The worker's own page: how far each of its partitions is, what it costs, and which share takes the slow path."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape

_STYLE = """
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif }
body { max-width: 64rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.3rem; margin: 0 } p { margin: .3rem 0 1.2rem; opacity: .75 }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: 1rem; margin: 0 0 1.5rem }
dt { font-size: .8rem; opacity: .7 } dd { margin: 0; font-size: 1.3rem; font-variant-numeric: tabular-nums }
.wide { overflow-x: auto } table { border-collapse: collapse; width: 100% }
th, td { padding: .35rem .6rem; border-bottom: 1px solid #8884; text-align: right; white-space: nowrap }
th:first-child, td:first-child { text-align: left } td { font-variant-numeric: tabular-nums }
"""


@dataclass(frozen=True)
class PartitionStatus:
    """One input partition. Times are ms since 1970; None where nothing is known yet."""

    topic: str
    partition: int
    next_offset: int
    lag: int | None
    watermark_ms: int | None
    snapshot_ms: int | None
    waiting: int


@dataclass(frozen=True)
class WorkerStatus:
    """The worker at one moment."""

    name: str
    partitions: list[PartitionStatus]
    events: int
    late: int
    duplicates: int
    batches: int
    slow_batches: int
    snapshots: int
    snapshot_bytes: int
    snapshot_seconds: float
    now_ms: int


def render(status: WorkerStatus) -> str:
    """The page as HTML; it loads itself again every two seconds and asks no other machine for anything."""
    slow = f"{100 * status.slow_batches / status.batches:.2f} %" if status.batches else "none read yet"
    each_ms = 1000 * status.snapshot_seconds / status.snapshots if status.snapshots else 0.0
    figures = {
        "Events read": f"{status.events:,}",
        "Late": f"{status.late:,}",
        "Duplicates": f"{status.duplicates:,}",
        "Batches": f"{status.batches:,}",
        "Slow-path share": slow,
        "Snapshots": f"{status.snapshots:,}",
        "A snapshot takes": f"{each_ms:.0f} ms",
        "State written": f"{status.snapshot_bytes / (1 << 20):,.1f} MiB",
    }
    told = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in figures.items())
    rows = "".join(_row(one, status.now_ms) for one in status.partitions)
    spare = "" if status.partitions else "<p>No partition: there are more workers than partitions, or none yet.</p>"
    head = ["Partition", "Lag", "Watermark (UTC)", "Behind now", "Snapshot age", "Next offset", "Waiting events"]
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="2">'
        '<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">'
        f"<title>{escape(status.name)} - Crossfade</title><style>{_STYLE}</style>"
        f"<h1>{escape(status.name)}</h1><p>Stream processor. Numbers since its start; "
        '<a href="/metrics">metrics</a>, <a href="/healthz">health</a>.</p>'
        f'<dl>{told}</dl>{spare}<div class="wide"><table><thead><tr>{"".join(f"<th>{name}</th>" for name in head)}'
        f"</tr></thead><tbody>{rows}</tbody></table></div></html>"
    )


def _row(one: PartitionStatus, now_ms: int) -> str:
    watermark = behind = "not known yet"
    if one.watermark_ms is not None:
        watermark = datetime.fromtimestamp(one.watermark_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
        behind = _seconds(now_ms - one.watermark_ms)
    cells = [
        f"{one.topic}/{one.partition}",
        "not known yet" if one.lag is None else f"{one.lag:,}",
        watermark,
        behind,
        "none yet" if one.snapshot_ms is None else _seconds(now_ms - one.snapshot_ms),
        f"{one.next_offset:,}",
        f"{one.waiting:,}",
    ]
    return f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"


def _seconds(ms: int) -> str:
    seconds = ms / 1000
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"
