"""What is asked about a track, and what an answer says."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from dataclasses import dataclass
from typing import Literal

Provenance = Literal["claude", "rules"]

MOODS = ("energetic", "happy", "romantic", "calm", "melancholic", "angry", "neutral")
GENRES = (
    "pop",
    "hip-hop",
    "rock",
    "electronic",
    "r&b",
    "latin",
    "country",
    "jazz",
    "classical",
    "metal",
    "indie",
    "lo-fi",
    "folk",
    "podcast",
    "unknown",
)
CONTEXTS = ("workout", "party", "focus", "commute", "relax", "sleep", "romance", "background")


@dataclass(frozen=True)
class Question:
    """The context of a track as clients told it. Two tracks with the same context ask the same question."""

    track_name: str
    artist_name: str
    album_name: str
    duration_ms: int

    @classmethod
    def of(cls, track: dict[str, object]) -> Question:
        """From a record of schemas/track.avsc; spelling that only differs in case, width or blanks is the same."""
        name, artist, album = (_plain(track[key]) for key in ("track_name", "artist_name", "album_name"))
        duration = track["duration_ms"]
        return cls(name, artist, album, duration if isinstance(duration, int) else 0)

    def hash(self, asked: str) -> str:
        """Key of the insight cache; `asked` names the model or the version of the rules."""
        text = json.dumps([asked, self.track_name, self.artist_name, self.album_name, self.duration_ms // 1000])
        return hashlib.sha256(text.encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Answer:
    """What a track means. Valence: 0 sad to 1 happy; energy: 0 calm to 1 energetic; confidence: 0 to 1."""

    mood: str
    valence: float
    energy: float
    genre: str
    genre_confidence: float
    context: str
    provenance: Provenance
    model: str


class UnansweredError(RuntimeError):
    """A model did not answer; `kind` is the metric's label. `lasting`: asking again in this run is of no use."""

    def __init__(self, kind: str, message: str, *, lasting: bool = False) -> None:
        super().__init__(message)
        self.kind, self.lasting = kind, lasting


def _plain(value: object) -> str:
    text = unicodedata.normalize("NFKC", value) if isinstance(value, str) else ""
    return " ".join(text.casefold().split())
