"""What can be planted: incidents that a detector should find, and honest surges that it should not take for one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """`magnitude` in words, its borders, and by which dimensions a scenario says where it happens."""

    magnitude: str
    least: float
    most: float
    needs: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()
    is_incident: bool = True


KINDS: dict[str, Kind] = {
    "drop": Kind("the share of events lost on the way, of a country or of the platform", 0.01, 1, (), ("country",)),
    "surge": Kind("listeners as a multiple of the normal", 1.1, 1_000, ("country",)),
    "lost_pauses": Kind("the share of pauses that a release of the app does not tell", 0.01, 1, ("app_version",)),
    "skip_surge": Kind("skips as a multiple of the normal, after a bad recommendation", 1.1, 100, ("country",)),
    "streaming_farm": Kind("accounts that hear an artist's tracks for 31 s each", 1, 10_000, ("country",)),
    "looping_bot": Kind("seconds between two plays of the same track", 1, 3_600, ("country",)),
    "like_bombing": Kind("likes a minute of one track, by accounts that do not play it", 1, 100_000, ("country",)),
    "share_storm": Kind("the share of plays of the greatest hit that are shared", 0.01, 1),
    "takedown": Kind("the share of an artist's tracks that are gone", 0.01, 1),
    "clock_broken": Kind("hours that the clocks of a release's devices are fast", 0.1, 480, ("app_version",)),
    "duplicated": Kind("the share of events that are delivered twice", 0.01, 1, (), ("country",)),
    "new_release": Kind("the share of plays that a new track has at its peak", 0.001, 0.9, (), (), False),
    "viral_song": Kind("the share of plays that an old track has at its peak", 0.001, 0.9, (), (), False),
    "holiday": Kind("listeners as a multiple of the normal", 1.1, 1_000, ("country",), (), False),
}
