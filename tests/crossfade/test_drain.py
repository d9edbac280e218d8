"""When a run is drained: figures in, verdict out."""

from __future__ import annotations

from crossfade.drain import IMBALANCE_S, SETTLE_S, STUCK_S, Drain, Verdict, balances, what_is_stuck

IDLE: dict[str, int | None] = {"worker": 0, "sinks": 0, "enrichment": 0}


def ledger(accepted: int, loaded: int, dead: int = 0, twice: int = 0) -> dict[str, int]:
    in_flight = max(accepted - loaded - dead - twice, 0)
    return {
        "accepted": accepted,
        "loaded": loaded,
        "dead_lettered": dead,
        "deduplicated": twice,
        "in_flight": in_flight,
    }


def test_drained_after_every_lag_stayed_at_zero() -> None:
    """One reading of zeros is not enough: figures are up to a second old."""
    drain = Drain(0)
    assert drain.observe(1, True, IDLE, ledger(10, 8, 1, 1), 10) is Verdict.WAITING
    assert drain.observe(1 + SETTLE_S / 2, True, IDLE, ledger(10, 8, 1, 1), 10) is Verdict.WAITING
    assert drain.observe(1 + SETTLE_S, True, IDLE, ledger(10, 8, 1, 1), 10) is Verdict.DRAINED


def test_not_drained_while_the_source_sends() -> None:
    """Stages that have caught up with a source that goes on have not drained it."""
    drain = Drain(0)
    for second in range(60):
        assert drain.observe(second, False, IDLE, ledger(second, second), second) is Verdict.WAITING


def test_a_restarting_stage_starts_the_count_again() -> None:
    """A stage that does not answer is behind by an unknown number."""
    drain = Drain(0)
    drain.observe(0, True, IDLE, ledger(5, 5), 5)
    assert drain.observe(SETTLE_S, True, {**IDLE, "worker": None}, ledger(5, 5), 5) is Verdict.WAITING
    assert drain.observe(SETTLE_S + 0.1, True, IDLE, ledger(5, 5), 5) is Verdict.WAITING
    assert drain.observe(2 * SETTLE_S + 0.1, True, IDLE, ledger(5, 5), 5) is Verdict.DRAINED


def test_a_loss_is_not_waited_for_for_ever() -> None:
    """All lags are 0 and the ledger does not balance: that is the result, and no success."""
    drain = Drain(0)
    lost = {**ledger(10, 9), "in_flight": 0}
    assert drain.observe(0, True, IDLE, lost, 10) is Verdict.WAITING
    assert drain.observe(IMBALANCE_S - 1, True, IDLE, lost, 10) is Verdict.WAITING
    assert drain.observe(IMBALANCE_S, True, IDLE, lost, 10) is Verdict.IMBALANCED
    assert not balances(lost)


def test_stuck_when_nothing_gets_better() -> None:
    """A stage that dies and comes back with the same lag makes no progress, however lively it looks."""
    drain = Drain(0)
    verdict, now = Verdict.WAITING, 0.0
    while verdict is Verdict.WAITING and now < 10 * STUCK_S:
        now += 1
        lag = None if int(now) % 3 else 7
        verdict = drain.observe(now, True, {**IDLE, "worker": lag}, ledger(10, 10), 10)
    assert verdict is Verdict.STUCK
    assert STUCK_S <= now < STUCK_S + 10


def test_slow_is_not_stuck() -> None:
    """As long as rows arrive, however few, the run goes on."""
    drain = Drain(0)
    for hour in range(100):
        now = hour * (STUCK_S - 1)
        assert drain.observe(now, True, {**IDLE, "sinks": 100 - hour}, ledger(100, hour), 100) is Verdict.WAITING


def test_new_work_may_raise_the_lag() -> None:
    """A lag that was 0 once and grows with new events counts from there again."""
    drain = Drain(0)
    drain.observe(0, False, IDLE, ledger(0, 0), 0)
    drain.observe(STUCK_S - 1, False, {**IDLE, "sinks": 500}, ledger(500, 0), 500)
    assert drain.observe(2 * STUCK_S - 3, True, {**IDLE, "sinks": 400}, ledger(500, 0), 500) is Verdict.WAITING
    assert drain.observe(3 * STUCK_S - 5, True, {**IDLE, "sinks": 300}, ledger(500, 0), 500) is Verdict.WAITING


def test_the_stuck_one_is_named() -> None:
    """The message says who holds things up."""
    assert "worker is 3 behind" in what_is_stuck(True, {**IDLE, "worker": 3}, ledger(1, 1))
    assert "sinks does not answer" in what_is_stuck(True, {**IDLE, "sinks": None}, None)
    assert "source" in what_is_stuck(False, IDLE, None)
    assert "accepted 2, loaded 1" in what_is_stuck(True, IDLE, ledger(2, 1))
