"""Whose records can be read: registers the schemas of direct producers, and ours with a schema registry."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from crossfade.problem import ProblemError
from schemas import topics
from schemas.evolution import resolve
from schemas.kafka import consumer, offsets, partitions_of, registry_of, schemas_home
from schemas.registry import CachedRegistry, RegistryRefusedError, SchemaUnavailableError
from schemas.settings import Settings
from schemas.writers import Prefix, Writers, schema, schema_fingerprint

READER = "listening_event"
STRICT = ("BACKWARD", "BACKWARD_TRANSITIVE", "FULL", "FULL_TRANSITIVE")
"""Levels under which a newer schema of ours reads every record that an older one wrote."""

_SUBJECT = f"{topics.EVENTS}-value"


class SchemaError(ProblemError):
    """A schema cannot be taken; the message says why."""


def apply(settings: Settings) -> list[str]:
    """Registers our schemas, under BACKWARD_TRANSITIVE where nothing as strict is set; one line per thing done.

    A registry that is away is no problem once it has told its ids. Raises SchemaError when it refuses a schema, and
    KafkaUnavailableError when it is away and has never been asked.
    """
    registry = registry_of(settings)
    done: list[str] = []
    for topic in topics.topics(settings) if registry else ():
        if registry is None or topic.schema is None:
            continue
        try:
            done += _apply(registry, f"{topic.name}-value", topic.schema)
        except RegistryRefusedError as error:
            raise SchemaError(
                _refusal(registry, f"schemas/{topic.schema}.avsc", f"{topic.name}-value", error)
            ) from None
        except SchemaUnavailableError as error:
            registry.register(f"{topic.name}-value", schema(topic.schema))  # raises when it was never told
            done.append(f"kept the ids that are remembered: {error}")
            break
    return done


def _apply(registry: CachedRegistry, subject: str, name: str) -> list[str]:
    done = []
    level = registry.registry.compatibility(subject)
    if level not in STRICT:
        registry.registry.set_compatibility(subject, "BACKWARD_TRANSITIVE")
        done.append(f"set compatibility of {subject}: {level} to BACKWARD_TRANSITIVE")
    before = registry.remembered(subject, schema(name))
    schema_id = registry.register(subject, schema(name))
    return done if before == schema_id else [*done, f"registered {subject} as id {schema_id}"]


def register(settings: Settings, file: Path) -> list[str]:
    """Makes the schema of a direct producer known to every reader, from now on; returns lines for a person.

    Raises SchemaError when it cannot be read as an event, or the registry refuses it.
    """
    avro = _read(file)
    found = resolve(avro, schema(READER))
    if found.problems:
        raise SchemaError(
            f"{file.name} cannot be read as an event: {'; '.join(found.problems)}. Nothing was registered."
        )
    lines: list[str] = []
    starts = [Prefix.single_object(avro).data]
    registry = registry_of(settings)
    if registry is not None:
        try:
            schema_id = registry.register(_SUBJECT, avro)
        except RegistryRefusedError as error:
            raise SchemaError(_refusal(registry, file.name, _SUBJECT, error)) from None
        lines.append(f"registered {_SUBJECT} as id {schema_id}")
        if schema_id in (verdicts := registry.verdicts()) and verdicts[schema_id] is None:
            starts.append(Prefix.confluent(schema_id).data)  # readers were told that there is no such id
    writers = Writers.named(READER, home=schemas_home(settings))
    for start in starts:
        if (known := writers.built_in(start)) is not None:
            lines.append(f"known already: {known.origin}")
            continue
        writers.register(avro, start, file.name, lambda: _ends(settings))
        lines.append(
            f"records that start with {start.hex()} can be read from here on; earlier ones stay in dead-letters until "
            "`crossfade dead-letters replay --reason unknown_schema`"
        )
    return lines + [f"note: {note}" for note in found.notes]


def known(settings: Settings) -> list[dict[str, Any]]:
    """Every writer whose events can be read."""
    rows = []
    for writer in Writers.named(READER, home=schemas_home(settings), registry=registry_of(settings)).all():
        problems = writer.resolution.problems
        rows.append(
            {
                "starts_with": writer.prefix.data.hex(),
                "origin": writer.origin,
                "fields": len(writer.resolution.columns),
                "reads": "no: " + problems[0] if problems else "in columns" if writer.is_columnar else "one by one",
                "from": "the beginning" if writer.known_from is None else f"offsets {dict(writer.known_from)}",
                "notes": "; ".join(writer.resolution.notes) or None,
            }
        )
    return rows


def _read(file: Path) -> dict[str, Any]:
    try:
        avro = json.loads(file.read_text())
    except UnicodeDecodeError:
        raise SchemaError(f"{file} is no text.") from None
    except ValueError as error:
        raise SchemaError(f"{file} is no JSON: {error}") from None
    if not isinstance(avro, dict) or avro.get("type") != "record":
        raise SchemaError(f"{file} is no Avro schema of a record.")
    try:
        schema_fingerprint(avro)
    except Exception as error:  # fastavro names many kinds of what is no schema
        raise SchemaError(f"{file} is no Avro schema: {type(error).__name__}: {error}") from None
    return avro


def _ends(settings: Settings) -> dict[int, int]:
    client = consumer(settings, "crossfade-schemas")
    try:
        return {n: offsets(client, topics.EVENTS, n)[1] for n in partitions_of(client, topics.EVENTS)}
    finally:
        client.close()


def _refusal(registry: CachedRegistry, what: str, subject: str, error: RegistryRefusedError) -> str:
    return f"The schema registry at {registry.registry.name} refuses {what} as {subject}: {error}"
