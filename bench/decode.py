"""Decoding a batch of events: as columns, and one by one with fastavro, side by side. `python -m bench.decode`."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

from bench import results
from schemas.codec import Codec


def event(number: int) -> dict[str, object]:
    """An event as the simulator's are: about 200 bytes."""
    return {
        "event_id": f"0198c1d2-7b1a-7c3e-9f00-{number:012d}",
        "event_type": ("play", "pause", "skip", "like")[number % 4],
        "user_id": f"{number % 5_000:032x}",
        "track_id": f"spotify:track:{number % 900:022d}",
        "timestamp": 1_700_000_000_000 + number,
        "platform": "spotify",
        "location": "Berlin",
        "country": "DE",
        "ms_played": number % 200_000,
        "app_version": "8.9.1",
        "tenant": "default",
        "source": "simulator",
        "received_at": 1_700_000_000_500 + number,
    }


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    """Measures in turns, so that a busy neighbour slows both alike, and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    codec = Codec("listening_event")
    values = [codec.encode(event(number)) for number in range(options.events)]
    ratios = []
    for _ in range(options.rounds):
        single = seconds(lambda: [codec.decode(value) for value in values])
        ratios.append(single / seconds(lambda: codec.columns(values)))
    table = [
        f"`python -m bench.decode --events {options.events} --rounds {options.rounds}`: one batch, decoded and "
        "length-checked as columns, against fastavro one by one, in turns within one run.",
        "",
        "| | speed against fastavro |",
        "|---|---|",
        "| fastavro, one record at a time | 1 |",
        f"| columns, median of {options.rounds} rounds (least to most) "
        f"| {statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f}) |",
        "",
    ]
    results.write("Decoding", "\n".join(table))
    print("\n".join(table))


if __name__ == "__main__":
    main()
