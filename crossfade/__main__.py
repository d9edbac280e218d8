"""The command line `crossfade`: every command is one plain function; what it needs is imported when it runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from crossfade.problem import ProblemError

app = typer.Typer(
    name="crossfade",
    help="Listening events in, answers out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def front_door() -> None:
    """Listening events in, answers out."""


Rate = Annotated[float | None, typer.Option(help="Events per second, at real pace.", min=0.001)]


@app.command()
def run(
    scenario: Annotated[str, typer.Option(help="spotify, apple_music, youtube_music, custom, or none.")] = "spotify",
    config: Annotated[Path | None, typer.Option(help="Scenario file (YAML) for --scenario custom.")] = None,
    replay: Annotated[list[Path] | None, typer.Option(help="Recorded events instead of a simulator.")] = None,
    rate: Rate = None,
    events: Annotated[int | None, typer.Option(help="How many events the simulator sends.", min=1)] = None,
    seed: Annotated[int | None, typer.Option(help="Another seed, another crowd.")] = None,
    until_drained: Annotated[
        bool, typer.Option("--until-drained", help="End when all is in the warehouse; print the ledger as JSON.")
    ] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start from nothing: empties the data directory.")] = False,
    port: Annotated[int | None, typer.Option(help="Port of the page.", min=1, max=65535)] = None,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Do not open the page.")] = False,
) -> None:
    """Run every stage on this machine."""
    from crossfade.run import run as run_pipeline
    from crossfade.sources import Options

    files = tuple(replay or ())
    raise typer.Exit(
        run_pipeline(Options(scenario, config, files, rate, events, seed, until_drained, fresh, port, not no_browser))
    )


def main() -> None:
    """Runs a command; a foreseeable problem is one plain line on stderr and status 1."""
    try:
        app()
    except ProblemError as error:
        sys.exit(f"crossfade: {error}")
    except Exception as error:
        if type(error).__name__ not in ("KafkaUnavailableError", "WarehouseError", "ValidationError"):
            raise
        sys.exit(f"crossfade: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
