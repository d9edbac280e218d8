"""What is known and what is still to be asked: the insight cache, the queue by plays, and the records that go out."""

from __future__ import annotations

import hashlib
import heapq
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from enrichment.engagement import Engagement
from enrichment.question import Answer, Question
from enrichment.similar import SIMILAR_TRACKS, Neighbours

Key = tuple[str, str]
"""(tenant, track_id)"""

RESCORE_STEP = 0.03
"""An insight goes out again when the engagement score has moved by so much."""


@dataclass
class _Track:
    question: Question
    question_hash: str
    engagement: Engagement = field(default_factory=Engagement)
    answer: Answer | None = None
    similar: list[str] = field(default_factory=list)
    score: float = -1.0


class Insights:
    """All tracks that clients told about, in memory: about 1 KB a track.

    `asked` names who is asked (a model, or a version of the rules); it is part of the key of the cache.
    """

    def __init__(self, asked: str) -> None:
        self.asked = asked
        self._cache_hits = 0
        self._tracks: dict[Key, _Track] = {}
        self._engagement: dict[Key, Engagement] = {}
        self._answers: dict[str, Answer] = {}
        self._written: dict[Key, Mapping[str, Any]] = {}
        self._neighbours: dict[str, Neighbours] = {}
        self._open: set[Key] = set()
        self._stale: set[Key] = set()
        self._few: dict[tuple[str, str], set[Key]] = {}

    def __len__(self) -> int:
        """Tracks that wait for an answer or for a newer record."""
        return len(self._open) + len(self._stale)

    @property
    def written(self) -> int:
        """Tracks whose insight was written in earlier runs."""
        return len(self._written)

    def take_cache_hits(self) -> int:
        """Tracks answered from what was known, since the last call."""
        hits, self._cache_hits = self._cache_hits, 0
        return hits

    def remember(self, record: Mapping[str, Any]) -> None:
        """Takes a record of track-insights that was written earlier."""
        mood, genre = record["mood_analysis"], record["genre_prediction"]
        self._answers[record["question_hash"]] = Answer(
            mood["label"],
            mood["valence"],
            mood["energy"],
            genre["label"],
            genre["confidence"],
            record["listening_context"],
            record["provenance"],
            record["model"],
        )
        self._written[record["tenant"], record["track_id"]] = record

    def told(self, record: Mapping[str, Any]) -> None:
        """Takes a record of track-catalogue."""
        key = (record["tenant"], record["track_id"])
        question = Question.of(dict(record))
        question_hash = question.hash(self.asked)
        known = self._tracks.get(key)
        is_untold = not (question.track_name or question.artist_name)
        if known is not None and (is_untold or known.question_hash == question_hash):
            return
        track = _Track(question, question_hash, self._engagement.setdefault(key, Engagement()))
        self._tracks[key] = track
        written = self._written.get(key)
        if written is not None and written["question_hash"] == question_hash:
            self._cache_hits += 1
            track.similar, track.score = list(written["similar_tracks"]), written["engagement_score"]
            self._settle(key, track, self._answers[question_hash])
        else:
            self._open.add(key)

    def counted(self, record: Mapping[str, Any]) -> None:
        """Takes a record of window-metrics."""
        if record["scope"] != "track":
            return
        key = (record["tenant"], record["track_id"])
        engagement = self._engagement.setdefault(key, Engagement())
        engagement.add(record["plays"], record["skips"], record["likes"], record["shares"])
        track = self._tracks.get(key)
        if track is not None and track.answer is not None and abs(engagement.score - track.score) >= RESCORE_STEP:
            self._stale.add(key)

    def next_questions(self, limit: int) -> list[Question]:
        """At most `limit` different questions without an answer, those of the most-played tracks first."""
        self._answer_from_cache()
        most = heapq.nlargest(limit, self._open, key=lambda key: (self._engagement[key].plays, key))
        return list(dict.fromkeys(self._tracks[key].question for key in most))

    def _answer_from_cache(self) -> None:
        for key in [k for k in self._open if self._tracks[k].question_hash in self._answers]:
            self._cache_hits += 1
            track = self._tracks[key]
            self._settle(key, track, self._answers[track.question_hash])
            self._stale.add(key)

    def answered(self, answers: Mapping[Question, Answer]) -> None:
        """Takes answers; every track with the same question is answered by the same one."""
        for question, answer in answers.items():
            self._answers[question.hash(self.asked)] = answer
        for key in list(self._open):
            track = self._tracks[key]
            found = answers.get(track.question)
            if found is not None:
                self._settle(key, track, found)
                self._stale.add(key)

    def _settle(self, key: Key, track: _Track, answer: Answer) -> None:
        track.answer = answer
        self._open.discard(key)
        tenant, track_id = key
        self._neighbours.setdefault(tenant, Neighbours()).add(track_id, track.question.artist_name, answer)
        if answer.genre == "unknown":
            return
        few = self._few.setdefault((tenant, answer.genre), set())
        self._stale |= few
        if len(track.similar) < SIMILAR_TRACKS:
            few.add(key)

    def records(self, now_ms: int) -> Iterable[dict[str, Any]]:
        """Records of schemas/track_insight.avsc that say something new; each is given out once."""
        stale, self._stale = self._stale, set()
        for key in sorted(stale):
            track = self._tracks[key]
            if track.answer is None:
                continue
            tenant, track_id = key
            similar = self._neighbours[tenant].of(track_id, track.question.artist_name, track.answer)
            score = track.engagement.score
            if track.score >= 0 and similar == track.similar and abs(score - track.score) < RESCORE_STEP:
                continue
            track.similar, track.score = similar, score
            if len(similar) >= SIMILAR_TRACKS:
                self._few.get((tenant, track.answer.genre), set()).discard(key)
            yield _record(key, track, track.answer, now_ms)


def _record(key: Key, track: _Track, answer: Answer, now_ms: int) -> dict[str, Any]:
    tenant, track_id = key
    said = json.dumps([track.question_hash, track.similar, track.score])
    return {
        "insight_id": f"{track_id}/{hashlib.sha256(said.encode()).hexdigest()[:16]}",
        "track_id": track_id,
        "tenant": tenant,
        "question_hash": track.question_hash,
        "mood_analysis": {"label": answer.mood, "valence": answer.valence, "energy": answer.energy},
        "genre_prediction": {"label": answer.genre, "confidence": answer.genre_confidence},
        "listening_context": answer.context,
        "similar_tracks": track.similar,
        "engagement_score": track.score,
        "provenance": answer.provenance,
        "model": answer.model,
        "generated_at": now_ms,
    }
