"""Discrete simulation of rebalances: how long results are late when workers die, join and are deployed anew.

`python -m bench.rebalance_simulation [--events-per-s N] [--workers N] [--groups N] [--hours N] [--seed S]`

A change of membership stops every worker of its consumer group: Faust's state is loaded again by all of them. So the
simulation follows one group at a time: a change comes (kill -9, clean stop, start), it is noticed (a session time-out,
or at once), all members join, load the state of their partitions and go on; what came in meanwhile is worked off with
what they can do more than comes in. A change during a stop begins the stop anew.
"""

from __future__ import annotations

import argparse
import heapq
import random
from dataclasses import dataclass

from bench import results


@dataclass(frozen=True)
class Settings:
    """What is simulated. Times in seconds, rates per second."""

    events_per_s: float = 8e6
    workers: int = 64
    groups: int = 1
    worker_events_per_s: float = 400e3
    state_mb: float = 1024.0
    load_mb_per_s: float = 60.0
    session_s: float = 6.0
    join_s: float = 2.0
    restart_s: float = 3.0
    worker_lives_hours: float = 24.0 * 7
    deployments_a_day: float = 1.0
    deploy_every_s: float = 30.0
    hours: float = 24.0 * 7
    late_s: float = 10.0
    seed: int = 7


@dataclass
class Outcome:
    """What came of it, over all groups."""

    rebalances: int = 0
    stopped_s: float = 0.0
    late_s: float = 0.0
    longest_lag_s: float = 0.0
    accepted: float = 0.0
    processed: float = 0.0
    backlog: float = 0.0

    def add(self, other: Outcome) -> None:
        """Adds the outcome of another group."""
        self.rebalances += other.rebalances
        self.stopped_s += other.stopped_s
        self.late_s += other.late_s
        self.longest_lag_s = max(self.longest_lag_s, other.longest_lag_s)
        self.accepted += other.accepted
        self.processed += other.processed
        self.backlog += other.backlog


def changes(settings: Settings, workers: int, random_: random.Random) -> list[tuple[float, float, int]]:
    """(when the group notices, how long that took, by how many the group grows) of one group, in their order.

    A kill is noticed after the session time-out, and the replacement joins after a restart; a deployment stops and
    starts one worker after the other.
    """
    end, found = settings.hours * 3600, []
    for _ in range(workers):
        at = random_.expovariate(1 / (settings.worker_lives_hours * 3600))
        while at < end:
            found += [(at + settings.session_s, settings.session_s, -1), (at + settings.session_s + 0.1, 0.0, 1)]
            at += random_.expovariate(1 / (settings.worker_lives_hours * 3600))
    if settings.deployments_a_day:
        at = random_.expovariate(settings.deployments_a_day / 86_400)
        while at < end:
            for number in range(workers):
                stop = at + number * settings.deploy_every_s
                found += [(stop, 0.0, -1), (stop + settings.restart_s, 0.0, 1)]
            at += random_.expovariate(settings.deployments_a_day / 86_400)
    heapq.heapify(found)
    return [heapq.heappop(found) for _ in range(len(found)) if found[0][0] < end]


def simulate_group(settings: Settings, workers: int, random_: random.Random) -> Outcome:
    """One consumer group over the whole time."""
    rate, out = settings.events_per_s / settings.groups, Outcome()
    at, members, stopped_until, backlog = 0.0, workers, 0.0, 0.0

    def go_on(until: float) -> None:
        nonlocal at, backlog
        while at < until:
            step = until - at
            capacity = 0.0 if at < stopped_until else members * settings.worker_events_per_s
            if at < stopped_until:
                step = min(step, stopped_until - at)
            elif backlog > 0 and capacity > rate:
                step = min(step, backlog / (capacity - rate))
            out.accepted += rate * step
            before, backlog = backlog, max(0.0, backlog + (rate - capacity) * step)
            if backlog < 1e-6 * rate:  # worked off, but for what rounding leaves
                backlog = 0.0
            out.processed += before + rate * step - backlog
            out.stopped_s += step if capacity == 0.0 else 0.0
            out.longest_lag_s = max(out.longest_lag_s, backlog / rate)
            out.late_s += step * _share_above(before / rate, backlog / rate, settings.late_s)
            at += step

    for noticed, blind_s, growth in changes(settings, workers, random_):
        go_on(noticed)
        # the dead worker's share was not read while nobody knew
        missed = rate * blind_s / max(members, 1)
        backlog += missed
        out.processed -= missed
        members = max(0, members + growth)
        load_s = settings.state_mb * workers / max(members, 1) / settings.load_mb_per_s
        stopped_until = noticed + settings.join_s + load_s
        out.rebalances += 1
    go_on(settings.hours * 3600)
    out.backlog = backlog
    return out


def _share_above(before: float, after: float, limit: float) -> float:
    """Share of a step, in which the lag goes straight from `before` to `after`, with a lag above `limit`."""
    low, high = min(before, after), max(before, after)
    if high <= limit:
        return 0.0
    return 1.0 if low >= limit else (high - limit) / (high - low)


def simulate(settings: Settings) -> Outcome:
    """All groups; each has its share of workers and events, and its own changes."""
    random_, total = random.Random(settings.seed), Outcome()
    for _ in range(settings.groups):
        total.add(simulate_group(settings, settings.workers // settings.groups, random_))
    return total


def main(arguments: list[str] | None = None) -> int:
    """Simulates several cuts into groups, prints, and writes the section of RESULTS.md."""
    parser = argparse.ArgumentParser(prog="python -m bench.rebalance_simulation", description=__doc__)
    parser.add_argument("--events-per-s", type=float, default=Settings.events_per_s)
    parser.add_argument("--workers", type=int, default=Settings.workers)
    parser.add_argument("--worker-events-per-s", type=float, default=Settings.worker_events_per_s)
    parser.add_argument("--groups", default="1,4,16,32", help="consumer groups, each with topics of its own")
    parser.add_argument("--state-mb", type=float, default=Settings.state_mb, help="state of a worker")
    parser.add_argument("--load-mb-per-s", type=float, default=Settings.load_mb_per_s)
    parser.add_argument("--hours", type=float, default=Settings.hours)
    parser.add_argument("--seed", type=int, default=Settings.seed)
    parser.add_argument("--no-results", action="store_true", help="leaves RESULTS.md as it is")
    options = parser.parse_args(arguments)
    rows = []
    for groups in (int(one) for one in options.groups.split(",")):
        for state_mb in (options.state_mb / 10, options.state_mb):
            settings = Settings(
                options.events_per_s,
                options.workers,
                groups,
                options.worker_events_per_s,
                state_mb,
                options.load_mb_per_s,
                hours=options.hours,
                seed=options.seed,
            )
            found = simulate(settings)
            share = found.late_s / (settings.hours * 3600 * groups)
            rows.append(
                [
                    groups,
                    options.workers // groups,
                    f"{state_mb:,.0f}",
                    found.rebalances,
                    f"{found.stopped_s / max(found.rebalances, 1):.1f}",
                    f"{found.longest_lag_s:,.0f}",
                    f"{100 * share:.3f} %",
                ]
            )
    head = [
        "groups",
        "workers in each",
        "state of a worker (MB)",
        "rebalances",
        "mean stop (s)",
        "longest lag (s)",
        f"time with more than {Settings.late_s:.0f} s of lag",
    ]
    text = "\n\n".join(
        [
            f"`python -m bench.rebalance_simulation --seed {options.seed}`: a simulation, not a measurement.",
            f"{options.events_per_s:,.0f} events/s, {options.workers} workers of {options.worker_events_per_s:,.0f} "
            f"events/s, {options.hours:,.0f} hours. Each worker dies about once a week (noticed after "
            f"{Settings.session_s:.0f} s), and once a day all are deployed anew, one every "
            f"{Settings.deploy_every_s:.0f} s. State is loaded with {options.load_mb_per_s:.0f} MB/s a worker.",
            results.table(head, rows),
        ]
    )
    print(text)
    if not options.no_results:
        results.write("Rebalances at 8 million events/s", text)
    return 0


if __name__ == "__main__":
    main()
