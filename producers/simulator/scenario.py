"""What a scenario file may say, and clear words about what is wrong in one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from producers.simulator.kinds import KINDS
from producers.simulator.names import GENRES

SHIPPED = Path(__file__).parent.parent / "scenarios"
NAMES = ("spotify", "apple_music", "youtube_music", "custom")

Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(gt=0)]
Name = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[\w .+&-]+$")]
CountryCode = Annotated[str, Field(pattern=r"^[A-Z]{2}$")]


class ScenarioError(ValueError):
    """A scenario file that cannot be used; the message names the file, the place and the rule."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Country(_Section):
    """Where listeners live. `weight` is relative to the other countries, `zone` an IANA time zone."""

    weight: Weight
    cities: list[Name] = Field(min_length=1)
    zone: str = "UTC"

    @field_validator("zone")
    @classmethod
    def _exists(cls, zone: str) -> str:
        try:
            ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(f"{zone!a} is no time zone; one is Europe/Berlin") from None
        return zone


class Behaviour(_Section):
    """How people listen. Probabilities are per listen, `offline` and `incognito` per session.

    `skip` is the share of listens that are skipped (when: `world.SKIP_MS`), `skip_on` that on some devices.
    """

    tracks_per_session: Annotated[float, Field(ge=1, le=200)] = 9
    skip: Share = 0.486
    skip_on: dict[Name, Share] = {}
    pause: Share = 0.06
    resume: Share = 0.6
    seek: Share = 0.01
    like: Share = 0.03
    share: Share = 0.006
    shuffle: Share = 0.35
    incognito: Share = 0.01
    offline: Share = 0.01
    offline_minutes: Weight = 30
    completion_reported: Share = 0.9
    favourite_genre: Share = 0.75
    new_releases: Share = 0.03

    @model_validator(mode="after")
    def _one_ending_each(self) -> Behaviour:
        if self.skip + self.pause > 1:
            raise ValueError("skip and pause together are at most 1")
        return self


class Client(_Section):
    """What the platform's app tells; `videos` is the share of tracks that are videos, as their titles say."""

    track_id_prefix: Annotated[str, Field(max_length=64)] = ""
    track_id_characters: Annotated[int, Field(ge=6, le=64)] = 12
    reasons: bool = True
    album: bool = True
    isrc: bool = False
    shuffle: bool = True
    location: bool = True
    videos: Share = 0


class Faults(_Section):
    """What goes wrong on the way, as shares of all events; `clock_wrong` is the share of devices.

    Late: after the window and its grace, besides what was heard offline.
    """

    broken: Share = 1 / 10_000
    duplicate: Share = 1 / 500
    disordered: Share = 0.03
    late: Share = 1 / 1000
    clock_wrong: Share = 0.02


class Incident(_Section):
    """Something planted; `start` and `end` are fractions of the simulated span. `kinds.py` says what there is."""

    kind: str
    start: Share
    end: Share
    country: CountryCode | None = None
    app_version: Name | None = None
    magnitude: Weight

    @model_validator(mode="after")
    def _possible(self) -> Incident:
        if self.kind not in KINDS:
            raise ValueError(f"kind {self.kind!a} is not known; known are {', '.join(KINDS)}")
        kind = KINDS[self.kind]
        if self.end <= self.start:
            raise ValueError("end comes after start")
        if not kind.least <= self.magnitude <= kind.most:
            raise ValueError(f"the magnitude of a {self.kind} is {kind.magnitude}: {kind.least:g} to {kind.most:g}")
        told = {name for name in ("country", "app_version") if getattr(self, name) is not None}
        if not set(kind.needs) <= told <= {*kind.needs, *kind.takes}:
            wanted = " and ".join((*kind.needs, *(f"perhaps {name}" for name in kind.takes))) or "nothing"
            raise ValueError(f"a {self.kind} is said with {wanted} besides kind, start, end and magnitude")
        return self


class Scenario(_Section):
    """A platform, its listeners and its catalogue."""

    platform: Name
    listeners: Annotated[int, Field(ge=1, le=5_000_000)] = 50_000
    artists: Annotated[int, Field(ge=1, le=100_000)] = 400
    tracks: Annotated[int, Field(ge=1, le=1_000_000)] = 4_000
    track_seconds: Annotated[float, Field(ge=100, le=400)] = 203
    popularity_exponent: Annotated[float, Field(ge=0, le=3)] | None = None
    genres: dict[str, Weight] = Field(min_length=1)
    countries: dict[CountryCode, Country] = Field(min_length=1)
    devices: dict[Name, Weight] = Field(min_length=1)
    app_versions: dict[Name, Weight] = Field(min_length=1)
    behaviour: Behaviour = Behaviour()
    client: Client = Client()
    faults: Faults = Faults()
    incidents: list[Incident] = []

    @model_validator(mode="after")
    def _known(self) -> Scenario:
        unknown = sorted(set(self.genres) - set(GENRES))
        if unknown:
            raise ValueError(f"genres: {', '.join(unknown)} not known; known are {', '.join(GENRES)}")
        if not set(self.behaviour.skip_on) <= set(self.devices):
            raise ValueError("behaviour.skip_on: a device that is not among the devices")
        if self.skip_elsewhere() < 0:
            raise ValueError("behaviour.skip_on: so much is skipped on these devices that skip is exceeded")
        for incident in self.incidents:
            if incident.country is not None and incident.country not in self.countries:
                raise ValueError(f"incidents: country {incident.country} is not among the countries")
            if incident.app_version is not None and incident.app_version not in self.app_versions:
                raise ValueError(f"incidents: app_version {incident.app_version} is not among the app_versions")
        return self

    def skip_elsewhere(self) -> float:
        """Share of listens that are skipped on the other devices, so that `skip` is the mean."""
        on, total = self.behaviour.skip_on, sum(self.devices.values())
        told = sum(self.devices[device] for device in on)
        if told == total:
            return self.behaviour.skip
        skipped = sum(self.devices[device] * share for device, share in on.items())
        return (self.behaviour.skip * total - skipped) / (total - told)


def load(name: str, config: Path | None = None) -> Scenario:
    """The scenario of a shipped name, or of a file of one's own; raises ScenarioError."""
    if config is None and name not in NAMES:
        raise ScenarioError(f"scenario {name!a} is not known; known are {', '.join(NAMES)}, or give --config FILE")
    path = config or SHIPPED / f"{name}.yaml"
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ScenarioError(f"{path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ScenarioError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    try:
        return Scenario.model_validate(data)
    except ValidationError as error:
        found = [f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors()]
        raise ScenarioError(f"{path}: " + "; ".join(found)) from None
