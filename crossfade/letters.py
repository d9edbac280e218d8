"""Dead letters at the front door: list them, show one, and write them out for repair."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from crossfade.problem import ProblemError
from schemas import topics
from schemas.codec import Codec
from schemas.reasons import BadRecordError, Reason
from warehouse.runner import Answer, Reader

_LIST = """
SELECT dead_letter_id, failed_at, tenant, source, stage, reason, event_id, detail
FROM dead_letters
WHERE @reason IS NULL OR reason = @reason
ORDER BY failed_at DESC, dead_letter_id
LIMIT {limit}
"""
_ONE = "SELECT * FROM dead_letters WHERE dead_letter_id = @id"
_PAGE_ROWS = 2000
_PAGE = f"""
SELECT dead_letter_id, tenant, reason, detail, topic, record_key, payload, kafka_offset
FROM dead_letters
WHERE (@reason IS NULL OR reason = @reason) AND kafka_offset > @after
ORDER BY kafka_offset
LIMIT {_PAGE_ROWS}
"""  # noqa: S608 - a number of ours


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


def pages(source: Reader, reason: str | None) -> Iterator[list[dict[str, Any]]]:
    """All letters with their bytes, the oldest first, some thousand at a time."""
    known_reason(reason)
    after = -1
    while True:
        rows = source.query(_PAGE, {"reason": reason, "after": after}).rows
        if rows:
            yield rows
        if len(rows) < _PAGE_ROWS:
            return
        after = rows[-1]["kafka_offset"]


def event_of(letter: dict[str, Any], events: Codec) -> dict[str, Any] | None:
    """The event of a letter as far as it can be read, times in milliseconds; None when it cannot.

    What stood in Kafka is the event as the door had made it, pseudonym included; what a door refused is the client's.
    """
    payload = bytes(letter["payload"] or b"")
    if letter["topic"] == topics.EVENTS:
        try:
            event = events.decode(payload)
        except BadRecordError:
            return None
        return {name: _millis(value) for name, value in event.items()}
    try:
        found = json.loads(payload)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def export(source: Reader, reason: str | None, events: Codec) -> Iterator[str]:
    """A line of JSON for each letter, in the form in which `replay --fix` takes it back."""
    for rows in pages(source, reason):
        for letter in rows:
            shown = {name: letter[name] for name in ("dead_letter_id", "reason", "detail")}
            yield json.dumps({**shown, "event": event_of(letter, events)}, ensure_ascii=False)


def _millis(value: Any) -> Any:
    return round(value.timestamp() * 1000) if isinstance(value, datetime) else value
