"""What the threads of a client know together: how far events have come, and who waits for what."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from .store import Size, Store

Wait = Callable[[threading.Condition, Callable[[], bool], float], bool]


@dataclass(frozen=True)
class Timing:
    """Clock, chance and waiting, to be replaced in tests."""

    now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000
    random: Callable[[], float] = random.random
    wait: Wait = threading.Condition.wait_for


@dataclass(frozen=True)
class State:
    """What became of the events of a client. Each one told is queued or in one of the other counts.

    `queued` waits in the store, also for other processes that share it, or on its way there. `dropped` was refused
    because the queue was full, or could not be written before the end. `problem` says why nothing is being sent, or
    kept, at the moment; empty when all is well.
    """

    queued: int = 0
    accepted: int = 0
    duplicate: int = 0
    rejected: int = 0
    dropped: int = 0
    problem: str = ""


@dataclass
class Progress:
    """Guarded by `changed`, which nobody holds while they read, write or send."""

    timing: Timing
    changed: threading.Condition = field(default_factory=threading.Condition)
    waiting_events: int = 0
    waiting_bytes: int = 0
    last_id: int = 0
    """The newest event in the store that this client answers for."""
    size: Size = field(default_factory=Size)
    state: State = field(default_factory=State)
    keeping_problem: str = ""
    sending_problem: str = ""
    pause_until_s: float = 0.0
    """Until then (time.monotonic) nothing is sent."""
    flushing: int = 0
    closing: bool = False
    """No more events come: what waits is written."""
    stopping: bool = False
    """Nothing more is sent either."""

    def wait_for(self, predicate: Callable[[], bool], timeout_s: float) -> bool:
        """Waits until it is true, at most so long; gives whether it is."""
        with self.changed:
            return self.timing.wait(self.changed, predicate, timeout_s)

    def told(self) -> State:
        """The state now."""
        with self.changed:
            queued = self.size.events + self.waiting_events
            return replace(self.state, queued=queued, problem=self.sending_problem or self.keeping_problem)

    def count(self, accepted: int = 0, duplicate: int = 0, rejected: int = 0, dropped: int = 0) -> None:
        """So many events more came to an end."""
        with self.changed:
            self.state = replace(
                self.state,
                accepted=self.state.accepted + accepted,
                duplicate=self.state.duplicate + duplicate,
                rejected=self.state.rejected + rejected,
                dropped=self.state.dropped + dropped,
            )

    def look(self, store: Store) -> tuple[Size, int]:
        """What the store holds, and the last event of ours that is surely in it."""
        seen = self.last_id
        size = store.size()
        with self.changed:
            if self.last_id == seen:  # else something newer is known
                self.size = size
                self.changed.notify_all()
        return size, seen

    def all_sent(self) -> bool:
        """Nothing waits, and everything that this client kept has left the store."""
        oldest = self.size.oldest_id
        return not self.waiting_events and (oldest is None or oldest > self.last_id)
