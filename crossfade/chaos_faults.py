"""The faults of a campaign: which process is killed or stopped at which event. A seed gives the same faults again."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What happens to a process."""

    KILL = "kill -9"
    STOP = "stopped"


@dataclass(frozen=True)
class Fault:
    """`after` events have been sent when it happens; a stopped process goes on after `seconds`."""

    after: int
    kind: Kind
    stage: str
    seconds: float = 0.0


_WEIGHTS = {"worker": 4, "sinks": 3, "collector": 2, "enrichment": 1, "kafka": 2}
_STOPS_PER_KILL = 0.2
_BEYOND_SESSION_S = (1.0, 3.0)


def plan(seed: int, events: int, kills: int, stages: Sequence[str], session_timeout_ms: int) -> list[Fault]:
    """`kills` kill -9 and a fifth as many stops past the Kafka session, spread over the events, in their order.

    Every stage is killed once before any is killed twice by chance; a worker is stopped before others are.
    """
    chance = random.Random(seed)  # noqa: S311 - a campaign is to be repeatable
    weights = [_WEIGHTS[stage.partition("-")[0]] for stage in stages]
    once = chance.sample(list(stages), len(stages))
    killed = (once + chance.choices(stages, weights, k=max(0, kills - len(once))))[:kills]
    chance.shuffle(killed)
    workers = [stage for stage in stages if stage.startswith("worker")]
    stops = max(1, round(kills * _STOPS_PER_KILL)) if kills else 0
    stopped = (chance.choices(workers, k=(stops + 1) // 2) + chance.choices(stages, weights, k=stops // 2))[:stops]
    wanted: list[tuple[Kind, str]] = [(Kind.KILL, one) for one in killed] + [(Kind.STOP, one) for one in stopped]
    chance.shuffle(wanted)
    faults = []
    for number, (kind, stage) in enumerate(wanted):
        part = 0.03 + 0.92 * (number + chance.random()) / len(wanted)
        seconds = session_timeout_ms / 1000 + chance.uniform(*_BEYOND_SESSION_S) if kind is Kind.STOP else 0.0
        faults.append(Fault(int(events * part), kind, stage, seconds))
    return faults
