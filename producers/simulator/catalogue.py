"""Invented artists and tracks: each artist has a hidden genre, each track a popularity that falls with its rank."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from producers.simulator.names import GENRES
from producers.simulator.scenario import Scenario

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_CHARACTERS = np.array(list("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"))


def shares(weights: Floats) -> Floats:
    """Running sum of weights, ending at exactly 1: where a uniform number falls is what it picks."""
    running: Floats = np.cumsum(weights / weights.sum())
    running[-1] = 1.0
    return running


class Catalogue:
    """Tracks by index. What a client may know of a track is in `context`, the length in `duration_ms`."""

    def __init__(self, scenario: Scenario, random: np.random.Generator) -> None:
        genres = list(scenario.genres)
        genre_shares = shares(np.array(list(scenario.genres.values())))
        artist_genre = np.searchsorted(genre_shares, random.random(scenario.artists), side="right")
        artist_genre[: len(genres)] = np.arange(min(len(genres), scenario.artists))
        artists = [_artist(genres[genre], random) for genre in artist_genre]

        count = scenario.tracks
        artist = (scenario.artists * random.random(count) ** 1.6).astype(np.int64)
        artist[: scenario.artists] = np.arange(min(count, scenario.artists))
        self.genre_of_track: Ints = artist_genre[artist]
        seconds = np.clip(random.normal(205, 42, count), 92, 480)
        self.duration_ms: Ints = (seconds * 1000).astype(np.int64)
        popularity = np.power(random.permutation(count) + 1.0, -scenario.popularity_exponent)
        self._by_genre: Ints = np.argsort(self.genre_of_track, kind="stable")
        self._pick = self._cumulate(popularity, len(genres))
        self.genre_shares = genre_shares

        client = scenario.client
        letters = _CHARACTERS[random.integers(0, 62, (count, client.track_id_characters))]
        albums: dict[int, str] = {}
        self.track_ids: list[str] = []
        self.context: list[dict[str, object]] = []
        for track in range(count):
            words = GENRES[genres[self.genre_of_track[track]]]
            title = _title(words.mood, words.thing, random)
            known: dict[str, object] = {"track_name": title, "artist_name": artists[artist[track]]}
            if client.album:
                known["album_name"] = albums.setdefault(int(artist[track]), title)
            known["duration_ms"] = int(self.duration_ms[track])
            if client.isrc:
                known["isrc"] = f"QZ{artist[track] % 1000:03d}{26:02d}{track % 100_000:05d}"
            self.track_ids.append(client.track_id_prefix + "".join(letters[track]))
            self.context.append(known)

    def pick(self, genre: Ints, uniform: Floats) -> Ints:
        """A track of each genre, popular ones more often."""
        place = np.searchsorted(self._pick, genre + uniform, side="right")
        picked: Ints = self._by_genre[np.minimum(place, len(self._by_genre) - 1)]
        return picked

    def _cumulate(self, popularity: Floats, genres: int) -> Floats:
        """One running sum over all genres: that of genre g lies between g and g + 1; an empty genre borrows tracks."""
        running = np.zeros(len(popularity))
        sorted_genres = self.genre_of_track[self._by_genre]
        for genre in range(genres):
            members = sorted_genres == genre
            if members.any():
                running[members] = genre + shares(popularity[self._by_genre[members]])
        return running


def _artist(genre: str, random: np.random.Generator) -> str:
    words = GENRES[genre]
    name = f"{_one(words.first, random)} {_one(words.second, random)}"
    return name if random.random() < 0.6 else f"{name} & {_one(words.first, random)} {_one(words.second, random)}"


def _title(mood: tuple[str, ...], thing: tuple[str, ...], random: np.random.Generator) -> str:
    first, second = _one(mood, random), _one(thing, random)
    match int(random.integers(0, 5)):
        case 0:
            return second
        case 1:
            return f"{first} {second} (feat. {_one(thing, random)})"
        case 2:
            return f"{second} of {_one(thing, random)}"
        case _:
            return f"{first} {second}"


def _one(words: tuple[str, ...], random: np.random.Generator) -> str:
    return words[int(random.integers(0, len(words)))]
