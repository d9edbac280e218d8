"""How plays are spread over a catalogue: the law of Zipf and Mandelbrot, solved for what is known of real services.

A track of rank r is played in proportion to (r + q) ** -s. Exponent and offset follow from two shares: the first 1,000
of a million tracks have 14 % of the plays, the first 50,000 have 58 %. A smaller catalogue is a thinned one: the first
thousandth of it has as much. Among counted plays the first are those who also had luck, and new releases come on top:
so both shares are asked a little lower.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

REFERENCE_TRACKS = 1_000_000
HEAD, HEAD_SHARE = 1_000, 0.134
BODY, BODY_SHARE = 50_000, 0.565

_STEPS = 60


def weights(tracks: int, exponent: float | None = None) -> npt.NDArray[np.float64]:
    """Weights of ranks 1 to `tracks`, not normalised; `exponent` replaces the one that is solved for."""
    q, s = law()
    ranks = np.arange(1.0, tracks + 1)
    found: npt.NDArray[np.float64] = (ranks + q * tracks / REFERENCE_TRACKS) ** -(s if exponent is None else exponent)
    return found


@cache
def law() -> tuple[float, float]:
    """(q, s) of the reference catalogue, by bisection: for each q the s that fits the head, then the q that fits both.

    >>> q, s = law()
    >>> round(_share(HEAD, q, s), 4), round(_share(BODY, q, s), 4)
    (0.134, 0.565)
    """
    low, high = 1.0, 100_000.0
    for _ in range(_STEPS):
        q = (low * high) ** 0.5
        low, high = (low, q) if _share(BODY, q, _exponent(q)) > BODY_SHARE else (q, high)
    return q, _exponent(q)


def _exponent(q: float) -> float:
    low, high = 0.0, 20.0
    for _ in range(_STEPS):
        s = (low + high) / 2
        low, high = (s, high) if _share(HEAD, q, s) < HEAD_SHARE else (low, s)
    return s


def _share(first: int, q: float, s: float) -> float:
    """Share of the first ranks, the sums taken as integrals over half-open ranks (exact to 1e-6 for q above 1)."""
    return _integral(first, q, s) / _integral(REFERENCE_TRACKS, q, s)


def _integral(ranks: int, q: float, s: float) -> float:
    low, high = 0.5 + q, ranks + 0.5 + q
    if abs(s - 1) < 1e-9:
        return float(np.log(high / low))
    return float((high ** (1 - s) - low ** (1 - s)) / (1 - s))
