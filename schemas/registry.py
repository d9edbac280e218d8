"""A schema registry that speaks Confluent's API, with a cache on disk that outlives it."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from functools import cache
from http.client import HTTPException
from pathlib import Path
from typing import Any

from schemas.problem import KafkaUnavailableError

TIMEOUT_S = 2.0
"""The longest that one question to the registry may take."""
PATIENCE_S = 10.0
"""How long a record waits for a registry that does not answer, before its reader gives up and starts again."""
_REST_S = 1.0
_UNKNOWN_STATUS = 404
_BUSY = {408, 429}
_MEDIA_TYPE = "application/vnd.schemaregistry.v1+json"

Schema = dict[str, Any]


class RegistryRefusedError(KafkaUnavailableError):
    """The registry answered no; the message says why."""


class SchemaUnavailableError(KafkaUnavailableError):
    """The registry does not answer and its answer is not in the cache: a record must wait, it must not be refused."""


class Registry:
    """The questions that are asked of a registry; each raises SchemaUnavailableError when it does not answer."""

    def __init__(self, url: str, clock: Callable[[], float] = time.monotonic) -> None:
        parts = urllib.parse.urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        self.name = urllib.parse.urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", ""))
        self._headers = {"Content-Type": _MEDIA_TYPE, "Accept": f"{_MEDIA_TYPE}, application/json"}
        if parts.username:
            login = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
            self._headers["Authorization"] = "Basic " + base64.b64encode(login.encode()).decode()
        self._clock, self._silent_until = clock, float("-inf")

    def register(self, subject: str, schema: Schema) -> int:
        """The id of a schema, which is registered when it is new; raises RegistryRefusedError with the reason."""
        answer = self._ask("POST", f"/subjects/{_quoted(subject)}/versions", {"schema": json.dumps(schema)})
        return int(answer["id"])

    def schema(self, schema_id: int) -> Schema | None:
        """The schema with an id; None when the registry knows none, or one that is not Avro."""
        answer = self._ask("GET", f"/schemas/ids/{schema_id}", missing={})
        if answer.get("schemaType", "AVRO") != "AVRO" or answer.get("references"):
            return None
        try:
            found = json.loads(answer["schema"])
        except (KeyError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def compatibility(self, subject: str) -> str:
        """The level that holds for a subject: its own, else the registry's default; NONE when nothing is set."""
        path = f"/config/{_quoted(subject)}?defaultToGlobal=true"
        answer = self._ask("GET", path, missing={}) or self._ask("GET", "/config", missing={})
        return str(answer.get("compatibilityLevel", "NONE"))

    def set_compatibility(self, subject: str, level: str) -> None:
        """Sets the level of a subject."""
        self._ask("PUT", f"/config/{_quoted(subject)}", {"compatibility": level})

    def _ask(self, method: str, path: str, body: Any = None, missing: dict[str, Any] | None = None) -> dict[str, Any]:
        if self._clock() < self._silent_until:
            raise self._silent("it did not answer a moment ago")
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.name + path, data, self._headers, method=method)  # noqa: S310 - a setting
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:  # noqa: S310
                answer = json.loads(response.read())
        except urllib.error.HTTPError as error:
            with error:
                if error.code == _UNKNOWN_STATUS and missing is not None:
                    return missing
                if error.code >= 500 or error.code in _BUSY:
                    raise self._silent(f"it answers {error.code}") from None
                raise RegistryRefusedError(_reason(error)) from None
        except (OSError, HTTPException, ValueError) as error:
            raise self._silent(str(getattr(error, "reason", error))) from None
        if not isinstance(answer, dict):
            raise self._silent("it answers no JSON object")
        return answer

    def _silent(self, why: str) -> SchemaUnavailableError:
        if self._clock() >= self._silent_until:
            self._silent_until = self._clock() + _REST_S
        return SchemaUnavailableError(f"The schema registry at {self.name} cannot be asked: {why}.")


def _quoted(subject: str) -> str:
    return urllib.parse.quote(subject, safe="")


def _reason(error: urllib.error.HTTPError) -> str:
    try:
        told = json.loads(error.read())
        return str(told.get("message") or told)
    except (ValueError, AttributeError, OSError):
        return f"HTTP {error.code} {error.reason}"


@cache
def registry_at(url: str) -> Registry:
    """The one client of a process: when the registry is silent, it is silent for everyone."""
    return Registry(url)


class CachedRegistry:
    """What a registry has told, kept in a directory that all processes of a pipeline share.

    The first verdict on an id is kept, that there is no such schema too: worker and sink judge a record alike, whenever
    each of them reads it.
    """

    def __init__(self, registry: Registry, directory: Path, patience_s: float = PATIENCE_S) -> None:
        self.registry, self._patience_s = registry, patience_s
        self._home = directory / hashlib.sha256(registry.name.encode()).hexdigest()[:12]

    def register(self, subject: str, schema: Schema) -> int:
        """The id of a schema: the registry's answer, else the remembered one.

        Raises SchemaUnavailableError when there is neither, RegistryRefusedError when the registry refuses.
        """
        try:
            schema_id = self.registry.register(subject, schema)
        except SchemaUnavailableError:
            remembered = self.remembered(subject, schema)
            if remembered is None:
                raise
            return remembered
        with contextlib.suppress(OSError):
            write_json(self._file(subject, schema), {"id": schema_id, "schema": schema}, replace=True)
        return schema_id

    def remembered(self, subject: str, schema: Schema) -> int | None:
        """The id that the registry told last."""
        found = read_json(self._file(subject, schema))
        return None if found is None else int(found["id"])

    def _file(self, subject: str, schema: Schema) -> Path:
        digest = hashlib.sha256(json.dumps(schema, sort_keys=True).encode()).hexdigest()[:16]
        return self._home / f"{subject}-{digest}.json"

    def schema(self, schema_id: int) -> Schema | None:
        """The schema with an id, None when there was none; raises SchemaUnavailableError when nobody knows."""
        file = self._home / "ids" / f"{schema_id}.json"
        known = read_json(file)
        if known is None:
            told = {"schema": self._patiently(schema_id)}
            with contextlib.suppress(OSError):  # a full disk costs the memory, not the answer
                write_json(file, told, replace=False)
            known = read_json(file) or told
        found: Schema | None = known.get("schema")
        return found

    def _patiently(self, schema_id: int) -> Schema | None:
        end = time.monotonic() + self._patience_s
        while True:
            try:
                return self.registry.schema(schema_id)
            except SchemaUnavailableError:
                if time.monotonic() >= end:
                    raise
                time.sleep(_REST_S / 2)

    def verdicts(self) -> dict[int, Schema | None]:
        """Every id that was asked for."""
        files = self._home.glob("ids/*.json")
        return {int(file.stem): (read_json(file) or {}).get("schema") for file in files if file.stem.isdigit()}


def read_json(file: Path) -> dict[str, Any] | None:
    """A file's object; None when it is not there or broken."""
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def write_json(file: Path, content: dict[str, Any], *, replace: bool) -> None:
    """Writes a whole file at once; without `replace` the first writer wins."""
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor, draft = tempfile.mkstemp(dir=file.parent, suffix=".draft")
    try:
        with os.fdopen(descriptor, "w") as out:
            json.dump(content, out)
        if replace:
            Path(draft).replace(file)
        else:
            with contextlib.suppress(FileExistsError):
                os.link(draft, file)
    finally:
        Path(draft).unlink(missing_ok=True)
