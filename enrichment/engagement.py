"""How much listeners want a track: kept plays, likes and shares against skips, steadied for tracks with few plays."""

from __future__ import annotations

import math
from dataclasses import dataclass

_PRIOR_PLAYS, _PRIOR_SKIPS = 10.0, 4.0
_LOVE_SCALE = 5.0
_KEEP_WEIGHT = 0.7


@dataclass
class Engagement:
    """Counts of one track over the windows seen."""

    plays: int = 0
    skips: int = 0
    likes: int = 0
    shares: int = 0

    def add(self, plays: int, skips: int, likes: int, shares: int) -> None:
        """Takes one final window of the track."""
        self.plays += plays
        self.skips += skips
        self.likes += likes
        self.shares += shares

    @property
    def score(self) -> float:
        """0 to 1: 0.7 * kept + 0.3 * loved.

        kept = 1 - (skips + 4) / (plays + 10): a track without plays starts at the usual 40 % skips.
        loved = 1 - exp(-5 * (likes + 2 * shares) / (plays + 10)).

        >>> round(Engagement().score, 2)
        0.42
        """
        plays = max(self.plays, self.skips) + _PRIOR_PLAYS
        kept = 1 - (self.skips + _PRIOR_SKIPS) / plays
        loved = 1 - math.exp(-_LOVE_SCALE * (self.likes + 2 * self.shares) / plays)
        return round(max(0.0, _KEEP_WEIGHT * kept + (1 - _KEEP_WEIGHT) * loved), 3)
