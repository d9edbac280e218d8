"""Invented artists, albums and tracks; each artist has a hidden scene, from which co-listening follows.

A scene is a genre and one of its moods. It is never told to the pipeline: `truth` is what its answers are judged by.
"""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from producers.simulator import popularity
from producers.simulator.daytime import DAY_MS
from producers.simulator.names import GENRES, Words
from producers.simulator.scenario import Scenario
from producers.simulator.texts import behind, chosen, decimal, random_ids, running, texts

Ints = npt.NDArray[np.int64]
Codes = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float64]

MOODS = 4
"""Scenes of a genre: each has two of the genre's eight mood words."""

ALBUM_TRACKS = 10
_FRESH_TRACKS = 500  # one of so many tracks comes out around the time that is simulated
_FRESH_DAYS = (-14, 28)
RISE_DAYS = 3.0
_OLDEST_YEARS = 60
_VIDEO = " (Official Video)"


class Catalogue:
    """Tracks by index. Texts are codes of dictionaries, so that a million of them take little memory."""

    def __init__(self, scenario: Scenario, start_ms: int, random: np.random.Generator) -> None:
        genres = list(scenario.genres)
        count = scenario.tracks
        artist_genre = chosen(list(scenario.genres.values()), random, scenario.artists)
        artist_genre[: len(genres)] = np.arange(min(len(genres), scenario.artists))
        artist_scene = artist_genre * MOODS + random.integers(0, MOODS, scenario.artists)
        artist = np.minimum((scenario.artists * random.random(count) ** 1.6).astype(np.int64), scenario.artists - 1)
        artist[: scenario.artists] = np.arange(min(count, scenario.artists))
        self.artist: Codes = artist.astype(np.int32)
        self.scene: npt.NDArray[np.int16] = artist_scene[artist].astype(np.int16)
        self.scenes = [(genre, mood) for genre in genres for mood in range(MOODS)]
        seconds = np.clip(random.normal(scenario.track_seconds, 42, count), 92, 480)
        self.duration_ms: Codes = (seconds * 1000).astype(np.int32)

        titles = [_titles(GENRES[genre], mood) for genre, mood in self.scenes]
        first_title = np.cumsum([0, *map(len, titles)])
        title_counts = np.diff(first_title)[self.scene]
        title = (first_title[:-1][self.scene] + random.random(count) * title_counts).astype(np.int32)
        first_of_album, self.album = _albums(artist, random)
        all_titles = [text for some in titles for text in some]
        is_video = random.random(count) < scenario.client.videos
        self.title: Codes = title + np.where(is_video, len(all_titles), 0).astype(np.int32)
        self.titles = pa.array([*all_titles, *(text + _VIDEO for text in all_titles)], pa.large_string())
        self.album_title: Codes = title[first_of_album]
        self.artists = pa.array(_artists(genres, artist_genre, random), pa.large_string())
        ids = random_ids(count, scenario.client.track_id_characters, random)
        self.track_ids = texts(behind(scenario.client.track_id_prefix, ids))
        self.isrcs = texts(np.hstack([behind_isrc(self.artist), decimal(np.arange(count), 7)]))

        self.is_fresh = np.zeros(count, np.bool_)
        self.is_fresh[random.permutation(count)[: max(2, count // _FRESH_TRACKS)] if count > 2 else []] = True
        age_days = random.beta(1, 4, int(self.album.max()) + 1) * _OLDEST_YEARS * 365 - _FRESH_DAYS[0]
        released = start_ms - (age_days[self.album] * DAY_MS).astype(np.int64)
        fresh = np.flatnonzero(self.is_fresh)
        released[fresh] = start_ms + (random.uniform(*_FRESH_DAYS, len(fresh)) * DAY_MS).astype(np.int64)
        self.released_ms: Ints = released
        self.rank: Ints = random.permutation(count) + 1
        self._choice(popularity.weights(count, scenario.popularity_exponent)[self.rank - 1], random)

    def _choice(self, weight: Floats, random: np.random.Generator) -> None:
        """How tracks are picked: `by_scene` lists them, `running` of scene s goes from s to s + 1.

        `guide` says where to search: `running` between equally distant values, as many as there are tracks.

        New releases are picked apart, because they rise and decay. A scene without tracks has no share.
        """
        self.fresh = np.flatnonzero(self.is_fresh).astype(np.int32)
        self._fresh_weight = random.pareto(1.5, len(self.fresh)) + 0.05
        weight = np.where(self.is_fresh, 0, weight)
        self.popularity: Floats = weight / weight.sum()
        self.by_scene: Codes = np.argsort(self.scene, kind="stable").astype(np.int32)
        sorted_scene, sorted_weight = self.scene[self.by_scene], self.popularity[self.by_scene]
        mass: Floats = np.bincount(sorted_scene, sorted_weight, len(self.scenes)).astype(np.float64)
        self.scene_shares: Floats = running(mass)
        sums = np.cumsum(sorted_weight) - (np.cumsum(mass) - mass)[sorted_scene]
        within = np.clip(sums / np.maximum(mass[sorted_scene], 1e-300), 0, 1)
        self.running: Floats = sorted_scene.astype(np.float64) + within
        slots = np.arange(len(sorted_scene) + 1) * (len(self.scenes) / len(sorted_scene))
        self.guide: Codes = np.searchsorted(self.running, slots, side="right").astype(np.int32)

    def fresh_weights(self, ms: int) -> Floats:
        """How much each new release is played at a time, relative to the others."""
        return self._fresh_weight * rise_and_decay((ms - self.released_ms[self.fresh]) / DAY_MS / RISE_DAYS)

    def fresh_running(self, ms: int, share: float) -> Floats:
        """Running shares of all plays that the new releases have at a time; together `share`, or nothing yet."""
        weight = self.fresh_weights(ms)
        total = weight.sum()
        return np.cumsum(weight) * (share / total if total > 0 else 0)

    def greatest_hits(self, count: int) -> list[int]:
        """The most popular tracks."""
        return [int(track) for track in np.argsort(-self.popularity)[:count]]

    def truth(self) -> pl.DataFrame:
        """A row per track: `scene` is the hidden cluster, `rank` that of its popularity (new releases apart)."""
        dates = [datetime.fromtimestamp(ms / 1000, UTC).date() for ms in (self.released_ms // DAY_MS * DAY_MS).tolist()]
        names = [f"{genre}/{mood}" for genre, mood in self.scenes]
        return pl.DataFrame(
            {
                "track_id": self.track_ids.to_pylist(),
                "artist_name": self.artists.take(pa.array(self.artist)).to_pylist(),
                "track_name": self.titles.take(pa.array(self.title)).to_pylist(),
                "album": self.album,
                "genre": [self.scenes[scene][0] for scene in self.scene.tolist()],
                "scene": [names[scene] for scene in self.scene.tolist()],
                "released": dates,
                "is_new_release": self.is_fresh,
                "rank": self.rank,
                "duration_ms": self.duration_ms,
            }
        )


def rise_and_decay(x: npt.NDArray[np.float64]) -> Floats:
    """X e^(1-x): 0 before the release, 1 at its peak x = 1, and a tail of some peaks' length."""
    found: Floats = np.maximum(x, 0) * np.exp(1 - np.maximum(x, 0))
    return found


def behind_isrc(artist: Codes) -> npt.NDArray[np.uint8]:
    """The first five characters of an ISRC: country and registrant."""
    return np.hstack([np.tile(np.frombuffer(b"QZ", np.uint8), (len(artist), 1)), decimal(artist, 3)])


def _albums(artist: Ints, random: np.random.Generator) -> tuple[Ints, Ints]:
    """(track that opens the album, number of the album) of each track: an artist's tracks in a random order, cut."""
    order = np.lexsort((random.random(len(artist)), artist))
    starts = np.flatnonzero(np.append(True, np.diff(artist[order]) != 0))
    place = np.arange(len(artist)) - np.repeat(starts, np.diff(np.append(starts, len(artist))))
    opens = place % ALBUM_TRACKS == 0
    number = np.cumsum(opens) - 1
    first_of_album, album = np.empty_like(artist), np.empty_like(artist)
    first_of_album[order], album[order] = order[opens][number], number
    return first_of_album, album


def _artists(genres: list[str], artist_genre: Ints, random: np.random.Generator) -> list[str]:
    """Names, each once: of a genre's words, alone or as a pair, and with a number when there are too many."""
    names = [""] * len(artist_genre)
    for place, genre in enumerate(genres):
        mine = np.flatnonzero(artist_genre == place)
        words = GENRES[genre]
        alone = [f"{first} {second}" for first in words.first for second in words.second]
        wanted = len(mine) if len(mine) > len(alone) // 2 else 0
        picks = random.permutation(len(alone) * len(alone))[:wanted]
        both = [divmod(int(pick), len(alone)) for pick in picks]
        pairs = [f"{alone[first]} & {alone[second]}" for first, second in both if first != second]
        known = [alone[p] for p in random.permutation(len(alone))] + pairs
        for number, artist in enumerate(mine.tolist()):
            again, at = divmod(number, len(known))
            names[artist] = known[at] if not again else f"{known[at]} {again + 1}"
    return names


def _titles(words: Words, mood: int) -> list[str]:
    """Every title of a scene."""
    moods = words.mood[mood * 2 : mood * 2 + 2]
    return [
        *words.thing,
        *(f"{first} {second}" for first in moods for second in words.thing),
        *(f"{first} {second} (feat. {third})" for first in moods for second in words.thing for third in words.first),
        *(f"{second} of {third}" for second in words.thing for third in words.second),
    ]
