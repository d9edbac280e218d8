"""Answers are shared, kept for a moment, and never block a visitor."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from typing import Any

from warehouse.runner import Answer, WarehouseError
from web.answers import TAKES_LONG, Answers


class Source:
    """A reader that counts its questions and can be held up."""

    def __init__(self) -> None:
        self.asked = 0
        self.failing = ""
        self.go = threading.Event()
        self.go.set()

    def query(self, sql: str, params: Mapping[str, Any] | None = None) -> Answer:
        self.asked += 1
        self.go.wait(5)
        if self.failing:
            raise WarehouseError(self.failing)
        return Answer(["n"], [{"n": self.asked}])


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_many_visitors_ask_one_question() -> None:
    """Ten visitors at once cost one question, and all see the same answer."""

    async def scene() -> None:
        source = Source()
        answers = Answers(source, 1.0, Clock())
        found = await asyncio.gather(*(answers.get("chart", "SELECT 1", {}) for _ in range(10)))
        assert source.asked == 1
        assert {held.version for held in found} == {found[0].version}

    asyncio.run(scene())


def test_an_answer_is_renewed_when_it_is_old_and_the_warehouse_has_changed() -> None:
    """Within a second, or while the pulse is the same, nothing is asked."""

    async def scene() -> None:
        source, clock = Source(), Clock()
        answers = Answers(source, 1.0, clock)
        await answers.get("chart", "q", {}, "a")
        await answers.get("chart", "q", {}, "b")
        clock.now = 100
        await answers.get("chart", "q", {}, "a")
        assert source.asked == 1
        renewed = await answers.get("chart", "q", {}, "b")
        assert source.asked == 2
        assert renewed.answer.rows == [{"n": 2}]

    asyncio.run(scene())


def test_a_failing_question_is_told_and_the_last_good_answer_kept() -> None:
    """A plain message, no traceback; the rows from before are still there."""

    async def scene() -> None:
        source, clock = Source(), Clock()
        answers = Answers(source, 1.0, clock)
        await answers.get("chart", "q", {})
        source.failing, clock.now = "The warehouse is away.", 10
        held = await answers.get("chart", "q", {})
        assert held.error == "The warehouse is away."
        kept = answers.kept("chart")
        assert kept is not None
        assert kept.answer.rows == [{"n": 1}]

    asyncio.run(scene())


def test_a_slow_question_gives_the_answer_before_it() -> None:
    """Nobody waits for longer than the patience; the question is not asked twice meanwhile."""

    async def scene() -> None:
        source, clock = Source(), Clock()
        answers = Answers(source, 1.0, clock)
        source.go.clear()
        first = await answers.get("chart", "q", {}, patience_s=0.01)
        assert (first.error, first.slow) == (TAKES_LONG, True)
        await answers.get("chart", "q", {}, patience_s=0.01)
        source.go.set()
        found = await answers.get("chart", "q", {}, patience_s=5)
        assert found.answer.rows == [{"n": 1}]
        assert source.asked == 1

    asyncio.run(scene())
