"""Dead letters at the front door: list them, show one, and put them back in once the cause is gone."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from crossfade.problem import ProblemError
from schemas import topics
from schemas.kafka import codec_of
from schemas.reasons import BadRecordError, Reason
from schemas.settings import Settings
from warehouse.runner import Answer, Reader

_LIST = """
SELECT dead_letter_id, failed_at, tenant, source, stage, reason, event_id, detail
FROM dead_letters
WHERE @reason IS NULL OR reason = @reason
ORDER BY failed_at DESC, dead_letter_id
LIMIT {limit}
"""
_ONE = "SELECT * FROM dead_letters WHERE dead_letter_id = @id"
_REPLAY = """
SELECT dead_letter_id, tenant, topic, record_key, payload
FROM dead_letters
WHERE @reason IS NULL OR reason = @reason
ORDER BY failed_at, dead_letter_id
"""


@dataclass
class Outcome:
    """What became of dead letters that were put back: how many were sent, and how many are refused still, by reason."""

    sent: int = 0
    refused: Counter[str] = field(default_factory=Counter)


def known_reason(reason: str | None) -> str | None:
    """The reason; raises ProblemError when there is no such code."""
    if reason is not None and reason not in set(Reason):
        raise ProblemError(f"There is no reason {reason}: it is one of {', '.join(Reason)}.")
    return reason


def newest(source: Reader, reason: str | None, limit: int) -> Answer:
    """The newest dead letters."""
    return source.query(_LIST.format(limit=int(limit)), {"reason": known_reason(reason)})


def one(source: Reader, dead_letter_id: str) -> Answer:
    """One dead letter with its original bytes; raises ProblemError when there is none."""
    found = source.query(_ONE, {"id": dead_letter_id})
    if not found.rows:
        raise ProblemError(f"There is no dead letter {dead_letter_id}: `crossfade dead-letters list` names them.")
    return found


def replay(settings: Settings, source: Reader, reason: str | None) -> Outcome:
    """Puts dead letters back where they came in. The letters stay; an event that passes now is loaded like any other.

    What was refused at a door goes through its rules again; an unreadable record is produced again as it was, if it
    can be read now (for example, since its schema is known). A second replay of the same event_ids is deduplicated by
    the sink. Raises KafkaUnavailableError when Kafka does not take everything.
    """
    from producers.door import Door, Refused, replay_payload  # noqa: PLC0415 - only here

    letters = source.query(_REPLAY, {"reason": known_reason(reason)}).rows
    outcome = Outcome()
    door = Door(settings, "replay")
    for letter in letters:
        payload, tenant = bytes(letter["payload"] or b""), str(letter["tenant"])
        if letter["topic"] is None:
            again = replay_payload(door, payload, tenant)
            refusal = again.error if isinstance(again, Refused) else None
        else:
            refusal = _produce_again(door, settings, letter, payload)
        if refusal is None:
            outcome.sent += 1
        else:
            outcome.refused[refusal.reason.value] += 1
    door.flush()
    return outcome


def _produce_again(door: Any, settings: Settings, letter: dict[str, Any], payload: bytes) -> BadRecordError | None:
    topic = str(letter["topic"])
    if topic not in {known.name for known in topics.topics(settings) if known.schema is not None}:
        return BadRecordError(Reason.UNKNOWN_SCHEMA, f"topic {topic}")
    try:
        codec_of(settings, topic).decode(payload)
    except BadRecordError as error:
        return error
    door.producer.produce(topic, payload, letter["record_key"])
    door.producer.poll(0)
    return None
