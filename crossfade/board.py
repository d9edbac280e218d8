"""What `crossfade run` shows: one live board in a terminal, plain lines with a time elsewhere."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from crossfade.drain import KEYS

PLAIN_EVERY_S = 5.0
_COLOURS = {"up": "green", "finished": "green", "starting": "yellow", "unwell": "yellow", "down": "red"}
_NEWS_SHOWN = 5


@dataclass(frozen=True)
class Row:
    """One stage: `state` is up, starting, unwell (runs, but is not well), down or finished."""

    name: str
    does: str
    state: str
    restarts: int = 0
    lag: int | None = None
    note: str = ""


@dataclass(frozen=True)
class View:
    """Everything that the board shows."""

    rows: tuple[Row, ...]
    events_per_s: float
    ledger: Mapping[str, int] | None
    alerts: int | None
    page: str
    seconds: float

    @property
    def figures(self) -> str:
        """The figures in one line."""
        parts = [f"{self.events_per_s:,.0f} events/s"]
        lags = [row.lag for row in self.rows if row.lag is not None]
        parts.append(f"lag {sum(lags):,}" if lags else "lag unknown")
        if self.ledger is not None:
            parts.append(f"{self.ledger.get('loaded', 0):,} rows loaded")
        if self.alerts is not None:
            parts.append(f"{self.alerts} open alert{'' if self.alerts == 1 else 's'}")
        return ", ".join(parts)

    @property
    def ledger_line(self) -> str:
        """The ledger in one line."""
        if self.ledger is None:
            return "ledger: not known yet"
        return "ledger: " + ", ".join(f"{key.replace('_', '-')} {self.ledger.get(key, 0):,}" for key in KEYS)


class Board:
    """Shows views and news on one stream. Call from one thread."""

    def __init__(self, stream: IO[str]) -> None:
        self.console = Console(file=stream, highlight=False)
        self.live: Live | None = None
        self._terminal = self.console.is_terminal and not self.console.is_dumb_terminal
        self._news: deque[Text] = deque(maxlen=_NEWS_SHOWN)
        self._states: dict[str, str] = {}
        self._printed = 0.0
        self._figures = ""
        self._bar: Progress | None = None

    def say(self, text: str) -> None:
        """A line that stays: above the board in a terminal, with a time elsewhere."""
        if self._terminal:
            self.console.print(text, markup=False, soft_wrap=True)
        else:
            self.console.print(f"{time.strftime('%H:%M:%S')} {text}", markup=False, soft_wrap=True)

    def news(self, stage: str, text: str) -> None:
        """Something happened to a stage."""
        self._news.append(Text(f"{time.strftime('%H:%M:%S')} {stage} {text}", overflow="ellipsis", no_wrap=True))
        if not self._terminal:
            self.say(f"{stage} {text}")

    def progress(self, done: int, total: int) -> None:
        """How far the download of Kafka is."""
        if not self._terminal:
            if done in (0, total // 2, total):
                self.say(f"downloading Kafka: {done} of {total} archives")
            return
        if self._bar is None:
            self._bar = Progress(
                TextColumn("downloading Kafka"), BarColumn(), MofNCompleteColumn(), console=self.console
            )
            self._bar.add_task("kafka", total=total)
            self._bar.start()
        self._bar.update(self._bar.task_ids[0], completed=done)
        if done == total:
            self._bar.stop()
            self._bar = None

    def show(self, view: View) -> None:
        """The newest view."""
        if self._terminal:
            if self.live is None:
                self.live = Live(console=self.console, auto_refresh=False, transient=False, vertical_overflow="crop")
                self.live.start()
            self.live.update(self._draw(view), refresh=True)
            return
        for row in view.rows:
            if self._states.get(row.name) != row.state and row.state in ("up", "unwell"):  # the rest is news
                self.say(f"{row.name} {row.state}")
            self._states[row.name] = row.state
        figures = f"{view.figures}; {view.ledger_line}"
        if view.seconds - self._printed >= PLAIN_EVERY_S and figures != self._figures:
            self._printed, self._figures = view.seconds, figures
            self.say(figures)

    def _draw(self, view: View) -> Group:
        table = Table(box=None, pad_edge=False, header_style="dim")
        for name, justify in (("stage", "left"), ("", "left"), ("restarts", "right"), ("lag", "right"), ("", "left")):
            table.add_column(name, justify=justify)  # type: ignore[arg-type]
        for row in view.rows:
            table.add_row(
                row.name,
                Text(row.state, style=_COLOURS.get(row.state, "")),
                str(row.restarts) if row.restarts else "",
                "" if row.lag is None else f"{row.lag:,}",
                Text(row.note or row.does, style="dim", overflow="ellipsis", no_wrap=True),
            )
        minutes, seconds = divmod(int(view.seconds), 60)
        head = Text.assemble(("Crossfade", "bold"), f"  {view.page}  ", (f"{minutes}:{seconds:02d}", "dim"))
        foot = Text("Ctrl-C stops everything", style="dim")
        return Group(Text(""), head, table, Text(view.figures, style="bold"), Text(view.ledger_line), *self._news, foot)

    def close(self) -> None:
        """Leaves the terminal as it was found; the last view stays readable."""
        if self._bar is not None:
            self._bar.stop()
        if self.live is not None:
            self.live.stop()
            self.live = None
