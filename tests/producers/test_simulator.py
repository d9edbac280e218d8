"""The simulator: repeatable to the byte, in order, at the rate that was asked for, with labelled incidents."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import islice, pairwise
from typing import Any

import pytest

from producers.event import from_json, from_object
from producers.simulator.__main__ import parser, plan_of
from producers.simulator.catalogue import Catalogue
from producers.simulator.faults import FAULTS
from producers.simulator.scenario import NAMES, load
from producers.simulator.stream import Item, Plan, Stream, encode
from schemas.reasons import BadRecordError

START = 1_790_000_000_000


def plan(name: str = "spotify", **changes: Any) -> Plan:
    return Plan(
        **{"name": name, "scenario": load(name), "seed": 1, "rate": 200, "start_ms": START, "events": 5_000, **changes}
    )


def told(plan: Plan) -> list[tuple[int, Item]]:
    batches = Stream(plan).batches()
    return [pair for arrivals, items in batches for pair in zip(arrivals, items, strict=True)]


def dicts(plan: Plan) -> list[dict[str, Any]]:
    return [item for _, item in told(plan) if isinstance(item, dict)]


def lines(plan: Plan) -> list[bytes]:
    return [encode(item) for _, item in told(plan)]


@pytest.mark.parametrize("name", NAMES)
def test_the_same_plan_tells_the_same_bytes(name: str) -> None:
    """Each scenario can be repeated byte for byte, and tells exactly as many events as asked."""
    first = lines(plan(name))
    assert first == lines(plan(name))
    assert len(first) == 5_000


@pytest.mark.parametrize("change", [{"seed": 2}, {"start_ms": START + 1}, {"rate": 201}, {"events": 4_999}])
def test_another_plan_has_other_ids(change: dict[str, Any]) -> None:
    """Seed, start, rate and number all make other event_ids, so that runs never swallow each other."""
    ids = [{event["event_id"] for event in dicts(p) if event.get("event_id")} for p in (plan(), plan(**change))]
    assert not ids[0] & ids[1]


def test_events_come_in_the_order_of_a_real_door() -> None:
    """Arrival never goes back; 2 to 5 % are a little out of order, about 1 in 1,000 comes after its window closed."""
    late = disordered = 0
    clock = 0
    pairs = told(plan(events=100_000))
    assert [at for at, _ in pairs] == sorted(at for at, _ in pairs)
    for arrival, item in pairs:
        if isinstance(item, dict) and isinstance(item.get("timestamp"), int) and item["timestamp"] <= arrival:
            behind = clock - item["timestamp"]
            late += behind > 70_000
            disordered += 0 < behind < 10_000
            clock = max(clock, item["timestamp"])
    assert 60 <= late <= 150
    assert 2_000 <= disordered <= 5_000


def test_the_rate_is_in_event_time() -> None:
    """Without incidents, N events at R per second span N / R seconds, within 5 %."""
    for rate in (20, 500):
        quiet = load("spotify").model_copy(update={"incidents": []})
        arrivals = [at for at, _ in told(plan(rate=rate, events=rate * 300, scenario=quiet))]
        assert (arrivals[-1] - START) / 1000 == pytest.approx(300, rel=0.05)


def test_broken_events_and_retries_come_as_often_as_stated() -> None:
    """About 1 in 2,000 is refused by the rules and 1 in 500 is told twice; everything else passes."""
    pairs = told(plan(events=100_000))
    refused: Counter[str] = Counter()
    ids: Counter[str] = Counter()
    for _, item in pairs:
        try:
            event = from_json(item, START * 2) if isinstance(item, bytes) else from_object(item, START + 10_000_000)
            ids[event.event_id] += 1
        except BadRecordError as error:
            refused[error.reason.value] += 1
    assert 25 <= refused.total() <= 85
    assert len(refused) >= 7
    assert 130 <= sum(count - 1 for count in ids.values()) <= 270


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_refused(fault: Any) -> None:
    """Each way of breaking an event breaks a rule."""
    event = next(event for event in dicts(plan()) if event["event_type"] == "pause")
    broken = fault(event)
    with pytest.raises(BadRecordError):
        from_json(broken, START) if isinstance(broken, bytes) else from_object(broken, START)


def test_listens_are_consistent() -> None:
    """What ends a listen comes after its play, by exactly ms_played, and never beyond the length of the track."""
    plays: dict[tuple[str, str], dict[str, Any]] = {}
    ends = checked = 0
    spotify = load("spotify")
    whole = spotify.model_copy(update={"faults": spotify.faults.model_copy(update={"broken": 0.0})})
    for event in sorted(dicts(plan(events=60_000, scenario=whole)), key=lambda e: e["timestamp"]):
        who = (event["user_id"], event["track_id"])
        if event["event_type"] == "play":
            plays[who] = event
        elif event["event_type"] in ("pause", "skip"):
            ends += 1
            if who in plays and event["timestamp"] - plays[who]["timestamp"] == event["ms_played"]:
                checked += 1
                assert (
                    event["position_ms"] == plays[who]["position_ms"] + event["ms_played"] <= plays[who]["duration_ms"]
                )
    assert checked > 0.3 * ends  # the others began before the first event


def test_nobody_listens_twice_at_once() -> None:
    """No listener has two sessions that overlap."""
    spans: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for event in dicts(plan("custom", events=60_000)):
        if isinstance(event.get("timestamp"), int) and event["timestamp"] < 2 * START and event.get("user_id"):
            spans[event["user_id"]][event["session_id"]].append(event["timestamp"])
    for sessions in spans.values():
        ordered = sorted((min(times), max(times)) for times in sessions.values())
        assert all(first[1] <= second[0] for first, second in pairwise(ordered))


def test_popular_tracks_are_played_more() -> None:
    """The most popular tenth of the catalogue has well over a tenth of the plays."""
    plays = Counter(event["track_id"] for event in dicts(plan(events=50_000)) if event["event_type"] == "play")
    top = sum(count for _, count in plays.most_common(500))
    assert 0.25 < top / plays.total() < 0.9


def test_platforms_differ() -> None:
    """Apple Music tells no reasons, YouTube Music no album, and people skip there most."""
    skips = {}
    for name in ("spotify", "apple_music", "youtube_music"):
        events = dicts(plan(name, events=20_000))
        fields = {field for event in events for field in event}
        assert ("reason_end" in fields) == (name != "apple_music")
        assert ("album_name" in fields) == (name != "youtube_music")
        skips[name] = sum(event.get("event_type") == "skip" for event in events)
    assert skips["apple_music"] < skips["spotify"] < skips["youtube_music"]


def per_minute(events: list[dict[str, Any]], **wanted: str) -> Counter[int]:
    return Counter(
        (event["timestamp"] - START) // 60_000
        for event in events
        if isinstance(event.get("timestamp"), int) and all(event.get(key) == value for key, value in wanted.items())
    )


def test_planted_incidents_are_in_the_events() -> None:
    """Drop, surge, skip surge and looping bot are where the labels say, as strong as they say."""
    the_plan = plan(events=200_000, rate=200)
    stream = Stream(the_plan)
    events = [item for _, items in stream.batches() for item in items if isinstance(item, dict)]
    labels = {label["kind"]: label for label in stream.labels()}
    assert set(labels) == {"drop", "surge", "skip_surge", "looping_bot"}
    planted = {incident.kind: incident for incident in stream.incidents}

    def rate(kind: str, inside: bool, **wanted: str) -> float:
        incident = planted[kind]
        minutes = per_minute(events, country=incident.country, **wanted)
        first, last = -(-(incident.start_ms - START) // 60_000), (incident.end_ms - START) // 60_000
        chosen = range(first, last) if inside else range(2, first)
        return sum(minutes[m] for m in chosen) / len(chosen)

    assert rate("drop", inside=True) < 0.12 * rate("drop", inside=False)
    assert rate("surge", inside=True) > 2 * rate("surge", inside=False)
    assert rate("skip_surge", True, event_type="skip") > 1.6 * rate("skip_surge", False, event_type="skip")
    bot = labels["looping_bot"]["dimension"]["user_id"]
    loops = [event for event in events if event.get("user_id") == bot and event["event_type"] == "play"]
    assert len(loops) >= 20
    assert len({event["track_id"] for event in loops}) == 1


def test_a_short_span_holds_no_incidents() -> None:
    """Below ten minutes nobody could tell an incident from noise, so none is planted."""
    assert Stream(plan(events=50_000)).incidents == []


def test_live_incidents_come_again() -> None:
    """Without an end, every 20 minutes have their incidents, at other times and with their labels."""
    stream = Stream(plan(events=None, rate=20))
    for arrivals, _ in stream.batches():
        if arrivals and arrivals[-1] > START + 2_500_000:
            break
    starts = [label["start"] for label in stream.labels() if label["kind"] == "drop"]
    assert len(starts) == len(set(starts)) == 3


def test_the_arguments_say_when_time_begins() -> None:
    """With --events it ends at now; with --rate it begins now; live it begins 20 minutes ago and waits for now."""
    cases = {
        "--events 2000": (START - 10_000, None),
        "--events 2000 --rate 100": (START, START),
        "": (START - 1_200_000, START),
        "--rate 50": (START - 1_200_000, START),
        "--rate 5000": (START - 48_000, START),
        "--events 2000 --start 2026-01-15T09:30:00Z": (1_768_469_400_000, None),
    }
    for arguments, expected in cases.items():
        found, now = plan_of(parser().parse_args(arguments.split()), START)
        assert (found.start_ms, now) == expected, arguments


def test_catalogues_are_plausible() -> None:
    """Every track has a name, an artist and a length between 90 s and 8 minutes; ids are unique."""
    stream = Stream(plan())
    catalogue: Catalogue = stream.catalogue
    assert len(set(catalogue.track_ids)) == len(catalogue.track_ids) == 5_000
    assert all(known["track_name"] and known["artist_name"] for known in catalogue.context)
    assert 90_000 < catalogue.duration_ms.min() < catalogue.duration_ms.max() <= 480_000
    assert next(islice(stream.batches(), 1))[1]
