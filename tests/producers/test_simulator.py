"""The simulator: repeatable to the byte, in order, at the rate that was asked for, with labelled incidents."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from datetime import datetime
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest

from producers.event import from_json, from_object
from producers.simulator import popularity
from producers.simulator.__main__ import parser, plan_of
from producers.simulator.catalogue import ALBUM_TRACKS, RISE_DAYS
from producers.simulator.daytime import BIN_MS, DAY_MS, hours_of_week
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
    stream = Stream(plan)
    return [
        pair for rows in stream.batches() for pair in zip(rows["arrival"].tolist(), stream.items(rows), strict=True)
    ]


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
    """Arrival never goes back; 2 to 5 % are a little out of order, 1 in 1,000 is late, and what was offline later."""
    late = disordered = offline = 0
    clock = 0
    pairs = told(plan(events=100_000))
    assert [at for at, _ in pairs] == sorted(at for at, _ in pairs)
    for arrival, item in pairs:
        if isinstance(item, dict) and isinstance(item.get("timestamp"), int) and item["timestamp"] <= arrival:
            behind = clock - item["timestamp"]
            late += behind > 70_000 and "offline" not in item
            offline += "offline" in item
            disordered += 0 < behind < 10_000
            clock = max(clock, item["timestamp"])
    assert 60 <= late <= 150
    assert 2_000 <= disordered <= 5_000
    assert 100 <= offline <= 2_500


def test_the_rate_is_in_event_time() -> None:
    """Without incidents, N events at R per second span N / R seconds, within 5 %."""
    for rate in (20, 500):
        quiet = load("spotify").model_copy(update={"incidents": []})
        arrivals = [at for at, _ in told(plan(rate=rate, events=rate * 300, scenario=quiet))]
        assert (arrivals[-1] - START) / 1000 == pytest.approx(300, rel=0.05)


def test_broken_events_and_retries_come_as_often_as_stated() -> None:
    """1 in 2,000, as asked for here, is refused by the rules and 1 in 500 is told twice; everything else passes."""
    spotify = load("spotify")
    broken = spotify.model_copy(update={"faults": spotify.faults.model_copy(update={"broken": 0.0005})})
    pairs = told(plan(events=100_000, scenario=broken))
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
    """What ends a stretch comes after its play, by exactly ms_played, and never beyond the length of the track."""
    plays: dict[tuple[str, str], dict[str, Any]] = {}
    ends = checked = 0
    spotify = load("spotify")
    faults = spotify.faults.model_copy(update=dict.fromkeys(("broken", "disordered", "late"), 0.0))
    behaviour = spotify.behaviour.model_copy(update={"offline": 0.0})
    whole = spotify.model_copy(update={"faults": faults, "behaviour": behaviour, "incidents": []})
    durations: dict[str, int] = {}
    for event in sorted(dicts(plan(events=60_000, scenario=whole)), key=lambda e: e["timestamp"]):
        who = (event["user_id"], event["track_id"])
        if event["event_type"] == "play":
            plays[who] = event
            durations[event["track_id"]] = event["duration_ms"]
        elif event["event_type"] in ("pause", "skip"):
            ends += 1
            if who in plays:
                checked += 1
                assert event["timestamp"] - plays[who]["timestamp"] == event["ms_played"]
                heard_until = plays[who]["position_ms"] + event["ms_played"]
                assert event["position_ms"] == heard_until <= durations[event["track_id"]]
    assert checked > 0.5 * ends  # the others began before the first event


def test_nobody_listens_twice_at_once() -> None:
    """No listener has two sessions that overlap."""
    spans: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for event in dicts(plan("custom", events=60_000)):
        is_whole = {"user_id", "session_id"} <= event.keys() and isinstance(event.get("timestamp"), int)
        if is_whole and event["timestamp"] < 2 * START:
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


def test_a_short_span_holds_no_incidents() -> None:
    """Below ten minutes nobody could tell an incident from noise, so none is planted."""
    assert Stream(plan(events=50_000)).incidents == []


def test_live_incidents_come_again() -> None:
    """Without an end, every 20 minutes have their incidents, at other times and with their labels."""
    stream = Stream(plan(events=None, rate=20))
    for rows in stream.batches():
        if rows["arrival"][-1] > START + 2_500_000:
            break
    starts = [label["start"] for label in stream.labels() if label["kind"] == "drop"]
    assert len(starts) == len(set(starts)) == 3


def test_the_arguments_say_when_time_begins() -> None:
    """With --events an hour ends at now; with --rate it begins now; live it begins 20 minutes ago and waits for now."""
    cases = {
        "--events 2000": (START - 100_000, None),
        "--events 200000": (START - 3_600_000, None),
        "--events 1000000": (START - 5_000_000, None),
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
    """Every track has a name, an artist and a length between 90 s and 8 minutes; ids, artists and ISRCs are unique."""
    catalogue = Stream(plan()).catalogue
    truth = catalogue.truth()
    assert truth["track_id"].n_unique() == truth.height == 5_000
    assert len(set(catalogue.artists.to_pylist())) == len(catalogue.artists)
    assert len(set(catalogue.isrcs.to_pylist())) == 5_000
    assert truth["artist_name"].str.len_chars().min() > 0
    assert truth["track_name"].str.len_chars().min() > 0
    assert 90_000 < truth["duration_ms"].min() < truth["duration_ms"].max() <= 480_000


def test_albums_belong_to_one_artist() -> None:
    """Artists have several tracks, on albums of at most ten that are named after one of them."""
    truth = Stream(plan()).catalogue.truth()
    albums = truth.group_by("album").agg(pl.col("artist_name").n_unique(), pl.len())
    assert albums["artist_name"].max() == 1
    assert albums["len"].max() == ALBUM_TRACKS
    assert truth.group_by("artist_name").len()["len"].median() >= 5


def test_new_releases_rise_and_decay() -> None:
    """A new track is not played before its day, most some days after, and hardly any more a month later."""
    catalogue = Stream(plan()).catalogue
    number = int(np.argmax(catalogue.released_ms[catalogue.fresh]))
    released = int(catalogue.released_ms[catalogue.fresh][number])
    days = (-1, 1, RISE_DAYS, 10, 30)
    weights = [catalogue.fresh_weights(released + int(day * DAY_MS))[number] for day in days]
    assert weights[0] == 0
    assert weights[1] < weights[2] > weights[3] > 20 * weights[4]


def test_a_million_tracks_follow_the_law() -> None:
    """The first 1,000 of a million have 13 to 15 % of the plays, the first 50,000 have 56 to 58 %; 250 of 5,000 too."""
    weight = popularity.weights(1_000_000)
    share = np.cumsum(weight) / weight.sum()
    assert 0.13 < share[999] < 0.15
    assert 0.56 < share[49_999] < 0.58
    few = popularity.weights(5_000)
    assert few[:250].sum() / few.sum() == pytest.approx(share[49_999], abs=0.015)


@pytest.mark.parametrize("zone", ["America/New_York", "Europe/Berlin", "Asia/Kolkata", "Australia/Sydney", "UTC"])
def test_local_hours_follow_daylight_saving(zone: str) -> None:
    """Every quarter of an hour of a year has the local hour and weekday that the system of time zones says."""
    start = 1_767_225_600_000
    hours = hours_of_week(zone, start, 365)
    for number in range(0, len(hours), 7):
        local = datetime.fromtimestamp((start + number * BIN_MS) / 1000, ZoneInfo(zone))
        assert hours[number] == local.weekday() * 24 + local.hour


def test_a_simulation_that_joins_later_tells_the_same_events() -> None:
    """What arrived before it joined is left out, and the rest is what it would have told anyway."""
    whole, late = Stream(plan(events=None)), Stream(plan(events=None))
    told = [item for batch in itertools.islice(whole.batches(), 6) for item in whole.items(batch)]
    first = next(late.batches(after_ms=START + 15_000))
    assert first["arrival"].min() > START + 15_000
    assert set(map(encode, late.items(first))) <= set(map(encode, told))
