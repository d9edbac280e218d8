"""Which tracks are alike: the same genre, nearest in valence and energy, the artist's own tracks a little nearer."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np

from enrichment.question import Answer

SIMILAR_TRACKS = 5
_SAME_ARTIST_BONUS = 0.15
_GROUP_MAX = 2_000


@dataclass
class _Group:
    tracks: list[str] = field(default_factory=list)
    artists: list[str] = field(default_factory=list)
    places: list[tuple[float, float]] = field(default_factory=list)


class Neighbours:
    """Tracks of one tenant by genre; a genre keeps the first 2,000 tracks as candidates, 100 KB each."""

    def __init__(self) -> None:
        self._groups: defaultdict[str, _Group] = defaultdict(_Group)
        self._known: set[str] = set()

    def add(self, track_id: str, artist_name: str, answer: Answer) -> None:
        """Makes a track a candidate, once."""
        group = self._groups[answer.genre]
        if track_id in self._known or len(group.tracks) >= _GROUP_MAX:
            return
        self._known.add(track_id)
        group.tracks.append(track_id)
        group.artists.append(artist_name)
        group.places.append((answer.valence, answer.energy))

    def of(self, track_id: str, artist_name: str, answer: Answer) -> list[str]:
        """At most SIMILAR_TRACKS track ids, most similar first; empty for an unknown genre."""
        group = self._groups[answer.genre]
        if answer.genre == "unknown" or not group.tracks:
            return []
        places = np.array(group.places)
        distance = np.hypot(places[:, 0] - answer.valence, places[:, 1] - answer.energy)
        if artist_name:
            distance = distance - _SAME_ARTIST_BONUS * (np.array(group.artists) == artist_name)
        nearest = np.argsort(distance, kind="stable")[: SIMILAR_TRACKS + 1]
        return [group.tracks[i] for i in nearest if group.tracks[i] != track_id][:SIMILAR_TRACKS]
