"""Answers that are kept: one question at a time per key, whoever asks; nobody waits for longer than is polite."""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from warehouse.answer import jsonable
from warehouse.runner import Answer, Reader, WarehouseError

T = TypeVar("T")

AT_ONCE_MAX = 4
"""Questions to the warehouse at the same time."""

TAKES_LONG = "This takes longer than usual; the answer comes as soon as it is there."


class Threads:
    """Runs blocking calls beside the event loop, on threads that never hold up the end of the process."""

    def __init__(self, at_once_max: int = AT_ONCE_MAX) -> None:
        self._turn = asyncio.Semaphore(at_once_max)

    async def run(self, call: Callable[[], T]) -> T:
        """The result of `call`, or its exception."""
        async with self._turn:
            loop = asyncio.get_running_loop()
            future: asyncio.Future[T] = loop.create_future()

            def settle(result: T | None, error: BaseException | None) -> None:
                if future.cancelled():
                    return
                if error is None:
                    future.set_result(result)  # type: ignore[arg-type]  # T may be None itself
                else:
                    future.set_exception(error)

            def work() -> None:
                try:
                    done: tuple[T | None, BaseException | None] = (call(), None)
                except Exception as error:
                    done = (None, error)
                if not loop.is_closed():
                    loop.call_soon_threadsafe(settle, *done)

            threading.Thread(target=work, daemon=True, name="question").start()
            return await future


@dataclass(frozen=True)
class Held:
    """An answer, or why there is none. `version` changes when the rows do; `slow`: a newer one is on its way."""

    answer: Answer = field(default_factory=lambda: Answer([], []))
    error: str | None = None
    version: str = ""
    pulse: Hashable = None
    asked_at: float = float("-inf")
    took_s: float = 0.0
    slow: bool = False


@dataclass
class _Entry:
    latest: Held | None = None
    good: Held | None = None
    task: asyncio.Task[None] | None = None


class Answers:
    """Asks the warehouse on behalf of everybody.

    An answer is given again for `fresh_s` seconds, and for as long as the warehouse has not changed (`pulse`). A
    question that takes long is asked less often: at most a fifth of the time is spent on it.
    """

    def __init__(self, source: Reader, fresh_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._source, self._fresh_s, self._clock = source, fresh_s, clock
        self._threads = Threads()
        self._entries: dict[str, _Entry] = {}

    async def ask(self, sql: str, params: Mapping[str, Any]) -> Answer:
        """Asks without keeping the answer; raises WarehouseError."""
        return await self._threads.run(lambda: self._source.query(sql, params))

    async def get(
        self, key: str, sql: str, params: Mapping[str, Any], pulse: Hashable = None, patience_s: float = 3.0
    ) -> Held:
        """The answer to a question, at most a moment old; the one before when it takes longer than `patience_s`."""
        entry = self._entries.setdefault(key, _Entry())
        if entry.latest is not None and self._is_fresh(entry.latest, pulse):
            return entry.latest
        if entry.task is None or entry.task.done():
            entry.task = asyncio.create_task(self._renew(entry, sql, params, pulse))
        await asyncio.wait({entry.task}, timeout=patience_s)
        if entry.task.done() and entry.latest is not None:
            return entry.latest
        return replace(entry.latest, slow=True) if entry.latest else Held(error=TAKES_LONG, slow=True)

    def kept(self, key: str) -> Held | None:
        """The last good answer, however old."""
        entry = self._entries.get(key)
        return entry.good if entry else None

    def _is_fresh(self, held: Held, pulse: Hashable) -> bool:
        age = self._clock() - held.asked_at
        if age < max(self._fresh_s, 4 * held.took_s):
            return True
        return pulse is not None and held.pulse == pulse and held.error is None

    async def _renew(self, entry: _Entry, sql: str, params: Mapping[str, Any], pulse: Hashable) -> None:
        asked_at = self._clock()
        try:
            answer = await self.ask(sql, params)
        except WarehouseError as error:
            entry.latest = Held(error=str(error), asked_at=self._clock())
        except Exception as error:  # a question must never take the page down with it
            entry.latest = Held(error=f"The question failed: {type(error).__name__}", asked_at=self._clock())
        else:
            now = self._clock()
            entry.latest = entry.good = Held(answer, None, version_of(answer), pulse, now, now - asked_at)


def version_of(answer: Answer) -> str:
    """A short hash of the rows."""
    text = json.dumps(jsonable(answer.rows), sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()
