"""How one person listens, one step after the other: a Markov chain over play, pause, resume, seek, like, share, skip.

Sessions begin by chance, more often when people of that country listen more. While a track plays, pause, seek, like and
share compete, each with a rate of its own; when the track is skipped is drawn from what Lamere measured.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from producers.simulator.chance import uniform, wait
from producers.simulator.rows import Rows
from producers.simulator.world import (
    ACT_ON_LOVED,
    ACT_ON_OTHER,
    CLICKED,
    DONE,
    FORWARD,
    FORWARDED,
    HEARD,
    LEFT,
    LIKE,
    NEVER,
    NONE,
    PAUSE,
    PLAY,
    RESUMED,
    SHARE,
    SKIP,
    SKIP_MS,
    SKIP_OF_LOVED,
    SKIP_OF_OTHER,
    SKIP_SHARES,
    STOPPED,
    Person,
    World,
)
from schemas.kernel import kernel, part

LISTEN_ROWS_MAX = 24
"""Rows that one listen may need."""

_ACTIONS_MAX = 10
_PAUSE_MS = 60_000.0
_LOVES = (0.6, 0.9)
_SHARE_MAX = 0.9
_BIN_MS, _WEEK_BINS = 900_000, 672


@part
def _come_back(person: Person, world: World, at: int) -> int:
    """When the next session begins: an inhomogeneous Poisson process by thinning (Lewis and Shedler 1979).

    A listener who shall spend the share f of the time listening begins sessions at the rate f / (1 - f) per session
    length. Behind the end of the curves their last week is repeated.
    """
    session_ms = world.habits[0].session_ms
    curve = world.curves[person.country]
    most = min(_SHARE_MAX, person.share * world.curve_peaks[person.country])
    if most <= 0:
        return NEVER
    most = most / (1 - most) / session_ms
    time = float(at)
    while True:
        time += wait(person, 1 / most)
        place = int((time - world.curves_start_ms) // _BIN_MS)
        if place >= len(curve):
            place = len(curve) - _WEEK_BINS + (place - len(curve)) % _WEEK_BINS
        share = min(_SHARE_MAX, person.share * curve[place])
        if uniform(person) * most < share / (1 - share) / session_ms:
            return int(time)


@part
def _sit_down(person: Person, world: World, at: int) -> None:
    habits = world.habits[0]
    person.sessions += 1
    person.left = 1
    if habits.tracks > 1:
        person.left += int(math.log(1.0 - uniform(person)) / math.log(1.0 - 1.0 / habits.tracks))
    mood = uniform(person)
    person.scene = person.loves[0] if mood < _LOVES[0] else person.loves[1] if mood < _LOVES[1] else person.loves[2]
    person.shuffle = uniform(person) < habits.shuffle
    person.private = uniform(person) < habits.private
    person.online = at
    if uniform(person) < person.offline:
        person.online = at + int(wait(person, habits.offline_ms))
    person.reason = CLICKED


@part
def _place(world: World, x: float) -> int:
    """The first place of `running` above x: a binary search between two marks of the guide."""
    last = len(world.running) - 1
    slot = min(int(x / len(world.scene_shares) * len(world.running)), last)
    low, high = int(world.guide[slot]), int(world.guide[slot + 1])
    while low > 0 and world.running[low - 1] > x:
        low -= 1
    while high <= last and world.running[high] <= x:
        high += 1
    while low < high:
        middle = (low + high) >> 1
        if world.running[middle] <= x:
            low = middle + 1
        else:
            high = middle
    return min(low, last)


@part
def _choose(person: Person, world: World) -> Any:
    """A track: of the session's scene, of all, or a new release; what is gone is replaced by another."""
    focus = world.habits[0].focus
    track: Any = 0
    for _ in range(20):
        pick = uniform(person)
        if len(world.fresh) and pick < world.fresh_running[-1]:
            track = world.fresh[np.searchsorted(world.fresh_running, pick, side="right")]
        else:
            scene: Any = int(person.scene)
            if uniform(person) >= focus:
                scene = np.searchsorted(world.scene_shares, uniform(person), side="right")
            track = world.by_scene[_place(world, scene + uniform(person))]
        if not world.gone[track]:
            break
    return track


@part
def _skip_after(person: Person, world: World, at: int, duration: float, is_loved: bool) -> float:
    """Milliseconds of listening after which the track is skipped; the whole duration if it is not."""
    chance = world.habits[0].skip * person.skips * (SKIP_OF_LOVED if is_loved else SKIP_OF_OTHER)
    for i in range(len(world.surges)):
        surge = world.surges[i]
        if surge[0] <= at < surge[1] and int(surge[2]) == person.country:
            chance *= surge[3]
    if uniform(person) >= min(chance, 0.97):
        return duration
    u = uniform(person)
    for i in range(3):
        if u < SKIP_SHARES[i + 1]:
            part = (u - SKIP_SHARES[i]) / (SKIP_SHARES[i + 1] - SKIP_SHARES[i])
            return SKIP_MS[i] + part * (SKIP_MS[i + 1] - SKIP_MS[i])
    return SKIP_MS[3] + (u - SKIP_SHARES[3]) / (1 - SKIP_SHARES[3]) * (duration - SKIP_MS[3])


@part
def _tell(
    out: Rows, row: int, person: Person, listener: int, at: float, track: int, kind: int, position: float,
    heard: float, reason_start: int, reason_end: int,
) -> int:  # fmt: skip
    told = out[row]
    told.at = int(at)
    told.arrival = max(told.at, person.online)
    told.offline = told.at < person.online
    told.listener, told.session, told.track, told.skew = listener, person.sessions, track, person.skew
    told.kind, told.position, told.heard = kind, int(position), int(heard)
    told.reason_start, told.reason_end, told.shuffle, told.fault = reason_start, reason_end, person.shuffle, 0
    told.number, told.private = 0, person.private
    return row + 1


@part
def _listen(out: Rows, row: int, person: Person, listener: int, at: int, world: World) -> tuple[int, int]:
    """One track, from its play to what ends it. Gives the next free row, and when the listener goes on."""
    habits = world.habits[0]
    track = _choose(person, world)
    duration = int(world.duration_ms[track])
    loved = world.scene[track]
    is_loved = loved == person.loves[0] or loved == person.loves[1] or loved == person.loves[2]
    stop = int(_skip_after(person, world, at, float(duration), is_loved))
    act = ACT_ON_LOVED if is_loved else ACT_ON_OTHER
    like, share = habits.like * act, habits.share * act
    rate = habits.pause + habits.seek + like + share
    heard = position = stretch = 0
    liked = shared = False
    row = _tell(out, row, person, listener, at, track, PLAY, position, NONE, person.reason, NONE)
    for _ in range(_ACTIONS_MAX):
        step = int(min(wait(person, 1 / rate), 1e9)) if rate > 0 else stop
        if step >= min(stop - heard, duration - position):
            break
        at, heard, position, stretch = at + step, heard + step, position + step, stretch + step
        what = uniform(person) * rate
        if what < like:
            if not liked:
                row = _tell(out, row, person, listener, at, track, LIKE, position, NONE, NONE, NONE)
            liked = True
        elif what < like + share:
            if not shared:
                row = _tell(out, row, person, listener, at, track, SHARE, position, NONE, NONE, NONE)
            shared = True
        elif what < like + share + habits.seek:
            position, stretch = int(uniform(person) * duration * 0.9), 0
            row = _tell(out, row, person, listener, at, track, PLAY, position, NONE, CLICKED, NONE)
        else:
            row = _tell(out, row, person, listener, at, track, PAUSE, position, stretch, NONE, STOPPED)
            if uniform(person) >= habits.resume:
                person.left = 0
                return row, at
            at, stretch = at + 1_000 + int(wait(person, _PAUSE_MS)), 0
            row = _tell(out, row, person, listener, at, track, PLAY, position, NONE, RESUMED, NONE)
    rest = min(stop - heard, duration - position)
    is_skip = stop < duration and stop - heard < duration - position
    at, position, stretch = at + rest, position + rest, stretch + rest
    person.left -= 1
    if is_skip:
        row = _tell(out, row, person, listener, at, track, SKIP, position, stretch, NONE, FORWARDED)
    elif person.left == 0 or uniform(person) < habits.reported:
        end = LEFT if person.left == 0 and uniform(person) < 0.3 else HEARD
        row = _tell(out, row, person, listener, at, track, PAUSE, position, stretch, NONE, end)
    person.reason = FORWARD if is_skip else DONE
    return row, at + int((300 if is_skip else 900) * (0.5 + uniform(person)))


@kernel
def advance(
    people: npt.NDArray[np.void], next_ms: npt.NDArray[np.int64], world: World, out: Rows, first: int, end_ms: int
) -> tuple[int, int]:
    """Every listen that begins before `end_ms`, of the listeners from `first` on, into `out`.

    Gives the rows written, and the listener to go on with: `out` had no room left, if there is one.
    """
    row = 0
    for listener in range(first, len(people)):
        person = people[listener]
        while next_ms[listener] < end_ms:
            if row + LISTEN_ROWS_MAX > len(out):
                return row, listener
            at = next_ms[listener]
            if person.left == 0:
                _sit_down(person, world, at)
            row, at = _listen(out, row, person, listener, at, world)
            if person.left == 0:
                at = at + 1_000 + int(29_000 * uniform(person)) if person.share == 0 else _come_back(person, world, at)
            next_ms[listener] = at if at < person.until else NEVER
    return row, len(people)


@kernel
def first_sessions(people: npt.NDArray[np.void], next_ms: npt.NDArray[np.int64], world: World, at_ms: int) -> None:
    """When those who do not listen at `at_ms` will begin; guests wait to be let in."""
    for listener in range(len(people)):
        if next_ms[listener] == NEVER:
            next_ms[listener] = _come_back(people[listener], world, at_ms)
