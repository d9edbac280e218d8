"""The processes of one run, and the order in which they are stopped."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass, field

from crossfade import home
from crossfade.supervisor import Supervised, stop
from schemas.settings import Settings

KAFKA = "kafka"
SOURCE = "source"


class Interrupts:
    """Ctrl-C and SIGTERM: counted while things run, an exception while they are prepared."""

    def __init__(self) -> None:
        self.count = 0
        self.raises = True
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)

    def _on_signal(self, _number: int, _frame: object) -> None:
        self.count += 1
        if self.raises:
            raise KeyboardInterrupt

    def hurry(self) -> bool:
        """Whether somebody asked twice."""
        return self.count > 1


@dataclass
class Pipeline:
    """The processes of one run."""

    settings: Settings
    broker: Supervised | None = None
    stages: dict[str, Supervised] = field(default_factory=dict)
    source: Supervised | None = None

    def everything(self) -> Iterator[Supervised]:
        """All processes in the order of their start."""
        yield from (one for one in (self.broker, *self.stages.values(), self.source) if one is not None)

    def stop(self, interrupts: Interrupts) -> None:
        """Stops what sends before what receives, and Kafka last; within 5 s."""
        senders = [one for one in (self.source, self.stages.get("collector")) if one is not None]
        rest = [one for one in self.stages.values() if one not in senders]
        last = [self.broker] if self.broker is not None else []
        stop(((senders, 0.5), (rest, 2.6), (last, 0.9)), interrupts.hurry)

    def note_children(self) -> None:
        """Keeps the list of processes for the next start."""
        home.note(self.settings.data_dir, [one.process.pid for one in self.everything() if one.process is not None])
