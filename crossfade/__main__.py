"""The command line `crossfade`: every command is one plain function; what it needs is imported when it runs."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crossfade.problem import ProblemError

if TYPE_CHECKING:
    from schemas.settings import Settings

app = typer.Typer(
    name="crossfade",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
topics_app = typer.Typer(no_args_is_help=True, help="Kafka topics.")
schemas_app = typer.Typer(no_args_is_help=True, help="Schemas of those who write events to Kafka directly.")
letters_app = typer.Typer(help="What could not be taken, with reason and original bytes.")
keys_app = typer.Typer(no_args_is_help=True, help="API keys of client apps (`crossfade key`: the one of development).")
app.add_typer(topics_app, name="topics")
app.add_typer(keys_app, name="keys")
app.add_typer(schemas_app, name="schemas")
app.add_typer(letters_app, name="dead-letters")

FORMATS = "table, json or csv."
PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}

Form = Annotated[str, typer.Option("--format", help=FORMATS)]
ReasonCode = Annotated[str | None, typer.Option(help="Only those with this reason code.")]


@app.callback()
def front_door() -> None:
    """Listening events in, answers out."""


@app.command()
def run(
    scenario: Annotated[str, typer.Option(help="spotify, apple_music, youtube_music, custom, or none.")] = "spotify",
    config: Annotated[Path | None, typer.Option(help="Scenario file (YAML) for --scenario custom.")] = None,
    replay: Annotated[
        list[Path] | None, typer.Option(help="Recorded events instead of a simulator; may be given several times.")
    ] = None,
    rate: Annotated[float | None, typer.Option(help="Events per second, at real pace.", min=0.001)] = None,
    events: Annotated[int | None, typer.Option(help="How many events the simulator sends.", min=1)] = None,
    seed: Annotated[int | None, typer.Option(help="Another seed, another crowd.")] = None,
    until_drained: Annotated[
        bool, typer.Option("--until-drained", help="End when all is in the warehouse; print the ledger as JSON.")
    ] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start from nothing: empties the data directory.")] = False,
    port: Annotated[int | None, typer.Option(help="Port of the page.", min=1, max=65535)] = None,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Do not open the page.")] = False,
    workers: Annotated[
        int | None, typer.Option(help="Worker processes that share the partitions.", min=1, max=64)
    ] = None,
) -> None:
    """Run every stage on this machine."""
    from crossfade.run import run as run_pipeline
    from crossfade.sources import Options

    files = tuple(replay or ())
    options = Options(scenario, config, files, rate, events, seed, until_drained, fresh, port, not no_browser, workers)
    raise typer.Exit(run_pipeline(options))


@app.command(context_settings=PASSED_ON)
def simulate(context: typer.Context) -> None:
    """Send the events of a simulated platform (`crossfade simulate --help` lists its options)."""
    _settings()
    from producers.simulator.__main__ import main as simulator

    raise typer.Exit(simulator(context.args))


@app.command(context_settings=PASSED_ON)
def replay(context: typer.Context) -> None:
    """Send recorded events or a listening history (`crossfade replay --help` lists its options)."""
    _settings()
    from producers.replay.__main__ import main as replayer

    raise typer.Exit(replayer(context.args))


@app.command("import", context_settings=PASSED_ON)
def import_histories(context: typer.Context) -> None:
    """Import listening histories of Spotify, Apple Music and others (`crossfade import --help` lists its options)."""
    _settings()
    from producers.importers.__main__ import main as importer

    raise typer.Exit(importer(context.args))


@app.command()
def query(
    sql: Annotated[str, typer.Argument(help="A SELECT in BigQuery's dialect; - reads it from standard input.")],
    form: Form = "table",
) -> None:
    """Ask the warehouse."""
    shape = _format(form)
    from crossfade.output import show
    from warehouse.runner import reader

    show(reader(_settings()).query(sys.stdin.read() if sql == "-" else sql), shape)


@app.command()
def alerts(
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with new transitions (json: one object a line).")
    ] = False,
    form: Form = "table",
) -> None:
    """Anomaly alerts, the newest last; --follow prints each as it is raised or resolved."""
    shape = _format(form)
    from crossfade import alerts as bell
    from warehouse.runner import reader

    source = reader(_settings())
    if follow:
        with contextlib.suppress(KeyboardInterrupt):  # how one stops to follow
            bell.follow(source, shape, time.sleep)
    else:
        bell.show_all(source, shape)


@app.command()
def ledger(
    by: Annotated[str | None, typer.Option("--by", help="hour or source: a line for each.")] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Count every record again from Kafka; name what is missing or twice.")
    ] = False,
    form: Form = "table",
) -> None:
    """What was accepted, and where it is; status 1 when something is missing or twice."""
    shape = _format(form)
    from crossfade import verify as recount
    from crossfade.ledger import show_ledger

    settings = _settings()
    fine = recount.verify(settings, shape) if verify else show_ledger(settings, by, shape)
    raise typer.Exit(0 if fine else 1)


@app.command()
def rebuild(
    start: Annotated[str, typer.Option("--from", metavar="TIME", help="ISO 8601; rows from then on.")],
    end: Annotated[str, typer.Option("--to", metavar="TIME", help="ISO 8601; rows before then.")],
    write: Annotated[
        bool | None, typer.Option("--write/--no-write", help="Write always or never; without: where rows differ.")
    ] = None,
) -> None:
    """Compute windows, plays, sessions and dead letters again from the log; print digests, and mend what differs."""
    from crossfade import rebuild as rebuilding

    settings = _settings()
    outcome = rebuilding.run(settings, rebuilding.moment(start), rebuilding.moment(end), write)
    print(json.dumps(outcome.as_dict()), flush=True)
    raise typer.Exit(0 if outcome.same or outcome.written else 1)


@letters_app.callback(invoke_without_command=True)
def dead_letters(context: typer.Context) -> None:
    """List them when nothing else is asked."""
    if context.invoked_subcommand is None:
        letters_list()


@letters_app.command("list")
def letters_list(
    reason: ReasonCode = None,
    limit: Annotated[int, typer.Option(help="At most so many, the newest first.", min=1)] = 50,
    form: Form = "table",
) -> None:
    """The newest dead letters."""
    shape = _format(form)
    from crossfade import letters
    from crossfade.output import show
    from warehouse.runner import reader

    show(letters.newest(reader(_settings()), reason, limit), shape)


@letters_app.command("show")
def letters_show(
    dead_letter_id: Annotated[str, typer.Argument(metavar="ID")],
    form: Form = "table",
) -> None:
    """One dead letter, with its original bytes (json: as base64)."""
    shape = _format(form)
    from crossfade import letters
    from crossfade.output import Format, answer_of, show
    from warehouse.runner import reader

    found = letters.one(reader(_settings()), dead_letter_id)
    if shape is Format.TABLE:
        found = answer_of(({"field": name, "value": value} for name, value in found.rows[0].items()), "field", "value")
    show(found, shape)


@letters_app.command("export")
def letters_export(reason: ReasonCode = None) -> None:
    """Write them to standard output, one JSON object a line: repair `event`, then `replay --fix` that file."""
    from crossfade import letters
    from schemas import topics
    from schemas.kafka import codec_of
    from warehouse.runner import reader

    settings = _settings()
    for line in letters.export(reader(settings), reason, codec_of(settings, topics.EVENTS)):
        print(line)


@letters_app.command("replay")
def letters_replay(
    reason: ReasonCode = None,
    fix: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help='Repairs: .jsonl with {"dead_letter_id", "event"} a line, or .py with fix(event) -> event or None.',
        ),
    ] = None,
    form: Form = "table",
) -> None:
    """Put dead letters back in, each once, however often this is run; what is refused again stays as it is."""
    shape = _format(form)
    from crossfade.output import answer_of, show
    from crossfade.repairs import repairs
    from crossfade.replay_letters import replay as replay_them
    from warehouse.runner import reader

    settings = _settings()
    outcome = replay_them(settings, reader(settings), reason, repairs(fix) if fix else None)
    show(answer_of(outcome.rows(), "outcome", "reason", "letters"), shape)


@topics_app.command("apply")
def topics_apply() -> None:
    """Create what is missing and alter what differs; says what it did."""
    from crossfade import topics

    done = topics.apply(_settings())
    print("\n".join(done) if done else "all topics are as they should be")


@schemas_app.command("register")
def schemas_register(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An Avro schema (.avsc).", exists=True, dir_okay=False)],
) -> None:
    """Make a direct producer's schema known; its events can be read from now on."""
    from crossfade import writers

    print("\n".join(writers.register(_settings(), file)))


@schemas_app.command("list")
def schemas_list(form: Form = "table") -> None:
    """Whose events can be read."""
    shape = _format(form)
    from crossfade import writers
    from crossfade.output import answer_of, show

    show(answer_of(writers.known(_settings()), "starts_with", "origin", "fields", "reads", "from", "notes"), shape)


@app.command()
def status(form: Form = "table") -> None:
    """How every stage is; status 1 when one is not up."""
    shape = _format(form)
    from crossfade.output import answer_of, show
    from crossfade.status import status as look

    rows = look(_settings())
    show(answer_of(rows, "stage", "state", "lag", "address", "does"), shape)
    raise typer.Exit(0 if all(row["state"] == "up" for row in rows) else 1)


@app.command()
def doctor(form: Form = "table") -> None:
    """What is missing on this machine, and how to get it; status 1 when something is."""
    shape = _format(form)
    from crossfade.doctor import examine
    from crossfade.output import answer_of, show

    findings = examine(_settings())
    show(answer_of((vars(finding) for finding in findings), "what", "state", "found", "advice"), shape)
    raise typer.Exit(1 if any(finding.state == "missing" for finding in findings) else 0)


@app.command()
def chaos(
    events: Annotated[int, typer.Option(help="Events that are sent.", min=100)] = 200_000,
    kills: Annotated[int, typer.Option(help="How often a random stage is killed with kill -9.", min=0)] = 10,
    seed: Annotated[int, typer.Option(help="Another seed, other events and faults.")] = 1,
    workers: Annotated[int, typer.Option(help="Worker processes.", min=1, max=64)] = 2,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the result as JSON.")] = None,
    report: Annotated[Path | None, typer.Option(help="Write the tables as Markdown.")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep logs and data, also when all went well.")] = False,
) -> None:
    """Kill stages of a pipeline made for it, and recount every row; status 0 only if none is lost or doubled."""
    from crossfade.chaos import Options, run

    raise typer.Exit(run(Options(events, kills, seed, workers, json_file, report, keep)))


@keys_app.command("create")
def keys_create(
    name: Annotated[str, typer.Argument(help="Of the app that will send with it.")],
    scope: Annotated[
        str, typer.Option(help="write, or test: events are judged and answered, and go nowhere.")
    ] = "write",
    tenant: Annotated[str, typer.Option(help="Whose events they are; else CROSSFADE_TENANT.")] = "",
    rate: Annotated[
        int | None, typer.Option(help="Events a second; else CROSSFADE_COLLECTOR_RATE_PER_S.", min=1)
    ] = None,
    form: Form = "table",
) -> None:
    """Make a key and print it: it is shown this once, and kept as a hash."""
    shape = _format(form)
    from crossfade import keys
    from crossfade.output import Format, answer_of, show

    made = keys.create(_settings(), name, tenant, scope, rate)
    if shape is Format.TABLE:
        print(made["key"])
        print(f"key {made['id']} of {name} (tenant {made['tenant']}, {scope}): keep it now.", file=sys.stderr)
    else:
        show(answer_of([made], "key", *keys.COLUMNS), shape)


@keys_app.command("list")
def keys_list(form: Form = "table") -> None:
    """Which keys count."""
    shape = _format(form)
    from crossfade import keys
    from crossfade.output import answer_of, show

    show(answer_of(keys.known(_settings()), *keys.COLUMNS), shape)


@keys_app.command("revoke")
def keys_revoke(key_id: Annotated[str, typer.Argument(metavar="ID", help="As `keys list` shows it.")]) -> None:
    """Refuse a key from now on; a running collector knows within a second."""
    from crossfade import keys

    gone = keys.revoke(_settings(), key_id)
    print(f"revoked: {gone['id']} of {gone['name']} (tenant {gone['tenant']}, ...{gone['ends_with']})")


@app.command()
def key() -> None:
    """Print the collector's development key; makes one when there is none."""
    from crossfade import home

    settings = _settings()
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    print(home.development_key(settings.dev_api_key_file))


@app.command()
def compose() -> None:
    """Print docker-compose.yml, made from the list of stages and the settings."""
    from crossfade.compose import text

    sys.stdout.write(text())


def _format(name: str) -> Any:
    from crossfade.output import Format

    try:
        return Format(name)
    except ValueError:
        raise ProblemError(f"There is no format {name}: it is {FORMATS[:-1]}.") from None


def _settings() -> Settings:
    from crossfade.status import current
    from schemas.settings import Settings

    return current(Settings())


def main() -> None:
    """Runs a command; a foreseeable problem is one plain line on stderr and status 1."""
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # whoever read our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if (problem := _plain(error)) is None:
            raise
        sys.exit(f"crossfade: {problem}")


def _plain(error: Exception) -> str | None:
    """What a person reads of a problem that was foreseen; None for one that was not."""
    from pydantic import ValidationError

    from schemas.kafka import KafkaUnavailableError
    from warehouse.answer import WarehouseError

    if isinstance(error, ProblemError | KafkaUnavailableError | WarehouseError):
        return str(error)
    if isinstance(error, ValidationError):
        return "; ".join(f"setting {'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror or error)
    return None


if __name__ == "__main__":
    main()
