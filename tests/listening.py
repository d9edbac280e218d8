"""The batch oracle for plays and sessions, which the fault campaign uses too."""

from __future__ import annotations

from crossfade.oracle import Event, Plays, Row, Sessions, clocked, told

__all__ = ["Event", "Plays", "Row", "Sessions", "clocked", "told"]
