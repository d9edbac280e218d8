"""What no listener does by themselves: loops of a bot, a streaming farm, likes of false accounts."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from producers.simulator.catalogue import Catalogue
from producers.simulator.incidents import Planted
from producers.simulator.rows import ROW, Rows
from producers.simulator.world import CLICKED, LIKE, NONE, PAUSE, STOPPED

FARM_HEARD_MS = 31_000
"""A second more than a service counts as a stream."""

_FARM_TRACKS, _FARM_GAP_MS = 12, 1_500
_SESSIONS = 1_000_000
"""Numbers of their sessions begin here, so that they are never those of the listener's own."""


def tracks_of(one: Planted, catalogue: Catalogue, random: np.random.Generator) -> list[int]:
    """The tracks that a planted thing is about."""
    match one.kind:
        case "new_release" if len(catalogue.fresh):
            return [int(catalogue.fresh[random.integers(0, len(catalogue.fresh))])]
        case "share_storm":
            return catalogue.greatest_hits(1)
        case "looping_bot" | "like_bombing" | "viral_song" | "new_release":
            return [int(random.integers(0, len(catalogue.scene)))]
        case "streaming_farm":
            artist = catalogue.artist[random.integers(0, len(catalogue.scene))]
            return [int(track) for track in np.flatnonzero(catalogue.artist == artist)[:_FARM_TRACKS]]
        case "takedown":
            loss = catalogue.artist[catalogue.greatest_hits(1)[0]]
            every = np.flatnonzero(catalogue.artist == loss)
            by_popularity = every[np.argsort(-catalogue.popularity[every])]
            return [int(track) for track in by_popularity[: max(1, round(one.magnitude * len(every)))]]
        case _:
            return []


def rows(one: Planted, people: npt.NDArray[np.void], catalogue: Catalogue, random: np.random.Generator) -> list[Rows]:
    """Everything that the guests of a planted thing do, when they are no real listeners."""
    accounts = np.arange(one.guests.start, one.guests.stop)
    match one.kind:
        case "looping_bot":
            heard = max(round(one.magnitude * 1000) - 700, 1)
            return [_plays(one, accounts, heard, 700, random)]
        case "streaming_farm":
            return [_plays(one, accounts, FARM_HEARD_MS, _FARM_GAP_MS, random)]
        case "like_bombing":
            found = _empty(len(accounts))
            found["listener"], found["kind"], found["track"] = accounts, LIKE, one.tracks[0]
            found["at"] = random.integers(one.start_ms, one.end_ms, len(accounts))
            found["position"] = random.integers(0, catalogue.duration_ms[one.tracks[0]], len(accounts))
            return [_sent(found, people)]
        case _:
            return []


def _plays(
    one: Planted, accounts: npt.NDArray[np.int64], heard_ms: int, gap_ms: int, random: np.random.Generator
) -> Rows:
    """Each account hears the tracks in turn, just as long, again and again."""
    turns = np.arange(one.start_ms, one.end_ms, heard_ms + gap_ms)
    listener, start = np.repeat(accounts, len(turns)), np.tile(turns, len(accounts))
    found = _empty(2 * len(start))
    plays, ends = found[0::2], found[1::2]
    plays["at"] = start + random.integers(0, min(gap_ms, 400), len(start))
    plays["track"] = np.array(one.tracks)[(np.arange(len(start)) + listener) % len(one.tracks)]
    plays["listener"], plays["reason_start"] = listener, CLICKED
    ends[:] = plays
    ends["at"], ends["kind"], ends["position"], ends["heard"] = plays["at"] + heard_ms, PAUSE, heard_ms, heard_ms
    ends["reason_start"], ends["reason_end"] = NONE, STOPPED
    found["arrival"] = found["at"]
    return found


def _empty(count: int) -> Rows:
    found = np.zeros(count, ROW)
    found["heard"], found["reason_start"], found["reason_end"], found["session"] = NONE, NONE, NONE, _SESSIONS
    return found


def _sent(found: Rows, people: npt.NDArray[np.void]) -> Rows:
    found["arrival"], found["skew"] = found["at"], people["skew"][found["listener"]]
    return found
