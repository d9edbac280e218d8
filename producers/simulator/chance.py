"""Chance that each listener has for themselves, so that nobody's life depends on who else is simulated."""

from __future__ import annotations

import math

import numpy as np

from producers.simulator.world import Person
from schemas.kernel import kernel


@kernel
def uniform(person: Person) -> float:
    """SplitMix64 (Steele, Lea and Flood 2014): each listener has a sequence of their own."""
    person.random += np.uint64(0x9E3779B97F4A7C15)
    z = person.random
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return float(z >> np.uint64(11)) * 2.0**-53


@kernel
def wait(person: Person, mean: float) -> float:
    """An exponential waiting time."""
    return -mean * math.log(1.0 - uniform(person))
