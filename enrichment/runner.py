"""The loop of the enrichment: follow the catalogue and the windows, ask what is open, write track-insights.

Delivery: everything is derived from topics that are read from their beginning at start, and every record has a key that
is a function of what it says. A restart therefore asks nothing twice and doubles nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from threading import Event
from typing import TYPE_CHECKING

import structlog
from confluent_kafka import KafkaError, Message, TopicPartition

from enrichment import rules
from enrichment.insights import Insights
from enrichment.question import Answer, Question, UnansweredError
from schemas import kafka, metrics, topics
from schemas.reasons import BadRecordError
from schemas.settings import Settings

if TYPE_CHECKING:
    from enrichment.claude import Claude

log = structlog.get_logger()

_FOLLOWED = (topics.TRACK_CATALOGUE, topics.WINDOW_METRICS)
_CLAUDE_AT_ONCE, _RULES_AT_ONCE = 20, 5_000
_POLL_S = 0.2
_FLUSH_S = 60.0


class Enrichment:
    """One process; `lag` counts records not read and tracks not answered."""

    def __init__(self, settings: Settings, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._claude = _claude(settings)
        self.insights = Insights(settings.anthropic_model if self._claude else rules.VERSION)
        self._consumer = kafka.consumer(settings, "crossfade-enrichment")
        self._ends = kafka.consumer(settings, "crossfade-enrichment-lag")
        self._producer = kafka.producer(settings)
        self._codecs = {t: kafka.codec_of(settings, t) for t in (*_FOLLOWED, topics.TRACK_INSIGHTS)}
        self._next: dict[tuple[str, int], int] = {}
        self._ready = False
        self._failed: KafkaError | None = None

    def run(self, stop: Event) -> None:
        """Runs until `stop` is set; raises KafkaUnavailableError when Kafka does not take what is written."""
        self._remember()
        self._assign(_FOLLOWED)
        backlog = self._ends_now()
        while not stop.is_set():
            for topic, record in self._read(self._consumer.consume(2_000, _POLL_S)):
                if topic == topics.TRACK_CATALOGUE:
                    self.insights.told(record)
                else:
                    self.insights.counted(record)
            if not self._ready and self._is_behind(backlog):
                continue  # scores of half the windows would be written, and written again
            self._ready = True
            self._ask()
            self._write()

    def _remember(self) -> None:
        """Reads what was answered in earlier runs."""
        self._assign((topics.TRACK_INSIGHTS,))
        ends = self._ends_now()
        while self._is_behind(ends):
            for _, record in self._read(self._consumer.consume(2_000, _POLL_S)):
                self.insights.remember(record)
        log.info("insights_remembered", tracks=self.insights.written)

    def _ends_now(self) -> dict[tuple[str, int], int]:
        return {place: kafka.offsets(self._ends, *place)[1] for place in self._next}

    def _is_behind(self, ends: dict[tuple[str, int], int]) -> bool:
        return any(self._next[place] < end for place, end in ends.items())

    def _assign(self, names: tuple[str, ...]) -> None:
        self._next = {}
        for name in names:
            for partition in kafka.partitions_of(self._ends, name):
                self._next[name, partition] = kafka.offsets(self._ends, name, partition)[0]
        self._consumer.assign([TopicPartition(*place, offset) for place, offset in self._next.items()])

    def _read(self, messages: list[Message]) -> Iterator[tuple[str, dict[str, object]]]:
        for message in messages:
            if kafka.is_fatal(message):
                raise kafka.KafkaUnavailableError(f"{message.topic()}: {message.error()}")
            topic, value = message.topic(), message.value()
            if message.error() is not None or topic is None:
                continue
            self._next[topic, message.partition() or 0] = (message.offset() or 0) + 1
            if value is None:
                continue
            try:
                yield topic, self._codecs[topic].decode(value)
            except BadRecordError as error:  # the sink, which reads the same topic, dead-letters it
                log.warning("record_unreadable", topic=topic, offset=message.offset(), reason=error.reason.value)

    def _ask(self) -> None:
        questions = self.insights.next_questions(_CLAUDE_AT_ONCE if self._claude else _RULES_AT_ONCE)
        if questions:
            self.insights.answered(self._answers(questions))
        metrics.INSIGHT_CACHE_HITS.inc(self.insights.take_cache_hits())

    def _answers(self, questions: list[Question]) -> dict[Question, Answer]:
        told: dict[Question, Answer] = {}
        if self._claude is not None:
            try:
                told = self._claude.answers(questions)
            except UnansweredError as error:
                metrics.LLM_FAILURES.labels(error.kind).inc()
                log.warning("rules_answer_instead", kind=error.kind, problem=str(error), tracks=len(questions))
                if error.lasting:
                    self._claude = None
        return {question: told.get(question) or rules.answer(question) for question in questions}

    def _write(self) -> None:
        written = 0
        for record in self.insights.records(self._now_ms()):
            key = f"{record['tenant']}/{record['track_id']}".encode()
            value = self._codecs[topics.TRACK_INSIGHTS].encode(record)
            while True:
                try:
                    self._producer.produce(topics.TRACK_INSIGHTS, value, key, on_delivery=self._delivered)
                    break
                except BufferError:
                    self._producer.poll(0.1)
            metrics.INSIGHTS.labels(record["provenance"]).inc()
            written += 1
        if written and self._producer.flush(_FLUSH_S):
            raise kafka.KafkaUnavailableError(f"Kafka did not acknowledge {written} insights within {_FLUSH_S:.0f} s.")
        if self._failed is not None:
            raise kafka.KafkaUnavailableError(f"Kafka refused an insight: {self._failed.str()}")

    def _delivered(self, error: KafkaError | None, _message: Message) -> None:
        self._failed = error or self._failed

    def lag(self) -> int | None:
        """Records not read yet and tracks not answered yet; None before the first read."""
        if not self._ready:
            return None
        behind = sum(max(0, kafka.offsets(self._ends, *place)[1] - n) for place, n in list(self._next.items()))
        return behind + len(self.insights)

    def close(self) -> None:
        """Leaves Kafka."""
        self._consumer.close()
        self._producer.flush(1.0)


def _claude(settings: Settings) -> Claude | None:
    key = settings.anthropic_api_key.get_secret_value()
    if not key:
        return None
    from enrichment.claude import Claude  # noqa: PLC0415 - the SDK takes seconds to import and is of use only with a key

    return Claude(key, settings.anthropic_model, settings.enrichment_budget_usd)


def now_ms() -> int:
    """Wall clock in milliseconds since 1970."""
    return time.time_ns() // 1_000_000
