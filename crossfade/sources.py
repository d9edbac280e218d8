"""What feeds the pipeline in a run: a simulated platform, recorded files, or nothing."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from crossfade.problem import ProblemError

SCENARIOS = ("spotify", "apple_music", "youtube_music", "custom")
NONE = "none"


@dataclass(frozen=True)
class Options:
    """What a person asked `crossfade run` for."""

    scenario: str = "spotify"
    config: Path | None = None
    replay: tuple[Path, ...] = ()
    rate: float | None = None
    events: int | None = None
    seed: int | None = None
    until_drained: bool = False
    fresh: bool = False
    port: int | None = None
    browser: bool = True
    workers: int | None = None


@dataclass(frozen=True)
class Source:
    """A program that puts events in. Started again, it sends the same events with the same ids."""

    title: str
    command: list[str]


def source_of(options: Options) -> Source | None:
    """The source of a run; raises ProblemError when it cannot work, before anything is started for it."""
    if options.replay:
        return _replay(options)
    if options.scenario == NONE:
        return None
    if options.scenario not in SCENARIOS:
        raise ProblemError(f"There is no scenario {options.scenario}: take one of {', '.join((*SCENARIOS, NONE))}.")
    if options.config is not None and options.scenario != "custom":
        raise ProblemError("--config is the file of --scenario custom.")
    if options.until_drained and options.events is None:
        raise ProblemError(
            "--until-drained needs an end: say how many events the simulator sends (--events N), give a file "
            "(--replay FILE), or take --scenario none."
        )
    return _simulator(options)


def _replay(options: Options) -> Source:
    for file in options.replay:
        try:
            with file.open("rb") as readable:
                readable.read(1)
        except OSError as error:
            raise ProblemError(f"{file} cannot be read: {error.strerror}.") from None
    command = [sys.executable, "-m", "producers.replay", *(str(file.absolute()) for file in options.replay)]
    return Source(f"replay of {', '.join(file.name for file in options.replay)}", [*command, *_shared(options)])


def _shared(options: Options) -> list[str]:
    rate = ["--rate", f"{options.rate:g}"] if options.rate is not None else []
    return [*rate, *(["--end-of-input"] if options.until_drained else [])]


def _simulator(options: Options) -> Source:
    from producers.simulator.__main__ import parser, plan_of  # noqa: PLC0415 - 0.3 s that a replay does not need

    arguments = ["--scenario", options.scenario, *_shared(options)]
    if options.config is not None:
        arguments += ["--config", str(options.config.absolute())]
    if options.events is not None:
        arguments += ["--events", str(options.events)]
    if options.seed is not None:
        arguments += ["--seed", str(options.seed)]
    try:
        plan, _ = plan_of(parser().parse_args(arguments), time.time_ns() // 1_000_000)
    except (OSError, ValueError) as error:
        raise ProblemError(f"The scenario {options.config or options.scenario} cannot be used: {error}") from None
    start = datetime.fromtimestamp(plan.start_ms / 1000, UTC).isoformat(timespec="milliseconds")
    title = f"simulator {plan.name}, {'without end' if options.events is None else f'{options.events:,} events'}"
    return Source(title, [sys.executable, "-m", "producers.simulator", *arguments, "--start", start])
