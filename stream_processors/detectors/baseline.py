"""What a series leads to expect: exponentially weighted mean and variance, and an alert that needs confirmation.

Mean and variance follow West (1979), 'Updating mean and variance estimates', in its exponentially weighted form:
d = x - mean; mean += a * d; variance = (1 - a) * (variance + a * d * d), where a is 1/n until that is below ALPHA.
The first window of a series is passed over: it began in the middle.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

ALPHA = 0.1
WARM_UP_WINDOWS = 6
CONFIRM_WINDOWS = 2
RELEARN_WINDOWS = 60
"""After so many deviating windows the new level is taken as normal."""


@dataclass
class Baseline:
    """Mean, variance, number of windows learnt, and the state of the series' alert.

    >>> b = Baseline()
    >>> for x in (3.0, 10.0, 12.0, 8.0): b.learn(x)
    >>> round(b.mean, 2)
    10.0
    """

    mean: float = 0.0
    variance: float = 0.0
    learnt: int = 0
    deviating: int = 0
    normal: int = 0
    onset: int = 0
    kind: str = ""
    raised: bool = False

    def learn(self, x: float) -> None:
        """Takes one normal window into the expectation."""
        self.learnt += 1
        if self.learnt == 1:
            return
        weight = max(ALPHA, 1 / (self.learnt - 1))
        d = x - self.mean
        self.mean += weight * d
        self.variance = (1 - weight) * (self.variance + weight * d * d)

    @property
    def is_warm(self) -> bool:
        """Whether enough windows were seen to judge."""
        return self.learnt >= WARM_UP_WINDOWS

    def score(self, x: float, least_deviation: float) -> float:
        """Standard deviations between x and the mean; the deviation is at least `least_deviation`."""
        return (x - self.mean) / max(math.sqrt(self.variance), least_deviation)

    def step(self, x: float, start: int, kind: str, *, is_beyond_doubt: bool = False) -> str:
        """Takes a judged window: `kind` names its deviation, '' is normal. Returns 'raised', 'resolved' or ''.

        A deviation is confirmed by a second window, unless it is beyond doubt.
        """
        if not kind or (self.raised and kind != self.kind):
            self.normal += 1
            self.deviating = 0
            self.learn(x)
            if self.raised and self.normal >= CONFIRM_WINDOWS:
                self.raised = False
                return "resolved"
            return ""
        if self.deviating == 0 and not self.raised:
            self.onset, self.kind = start, kind
        self.normal = 0
        self.deviating += 1
        if self.raised and self.deviating >= RELEARN_WINDOWS:
            self.mean, self.variance, self.learnt, self.deviating, self.raised = x, 0.0, 2, 0, False
            return "resolved"
        if not self.raised and (is_beyond_doubt or self.deviating >= CONFIRM_WINDOWS):
            self.raised = True
            return "raised"
        return ""
