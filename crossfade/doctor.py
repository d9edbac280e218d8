"""What is missing on this machine, and how to get it."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from crossfade import home, jars, kafka, ports
from crossfade.problem import ProblemError
from schemas.settings import Settings

MEMORY_MIN_BYTES = 3 << 30
DISK_MIN_BYTES = 2 << 30


@dataclass(frozen=True)
class Finding:
    """One thing looked at. `state`: ok, missing (it will not run), or optional (it runs without)."""

    what: str
    state: str
    found: str
    advice: str = ""


def examine(settings: Settings) -> list[Finding]:
    """Everything that a run needs or can use."""
    checks: tuple[Callable[[Settings], Iterator[Finding]], ...] = (
        _python,
        _kafka,
        _memory,
        _disk,
        _ports,
        _downloads,
        _containers,
        _claude,
        _warehouse,
    )
    return [finding for check in checks for finding in check(settings)]


def _python(_: Settings) -> Iterator[Finding]:
    good = sys.version_info >= (3, 11)
    yield Finding("Python", "ok" if good else "missing", platform.python_version(), "" if good else "3.11 or newer")


def _kafka(settings: Settings) -> Iterator[Finding]:
    if settings.kafka_bootstrap_servers:
        where = settings.kafka_bootstrap_servers
        if kafka.answers(where):
            yield Finding("Kafka", "ok", f"answers at {where}")
        else:
            yield Finding(
                "Kafka", "missing", f"nothing answers at {where}", "start it, or unset KAFKA_BOOTSTRAP_SERVERS"
            )
        return
    try:
        program = kafka.java()
        yield Finding("Java", "ok", f"{program} (version {kafka.java_version(program)})")
    except ProblemError as error:
        yield Finding("Java", "missing", "none", str(error))
    lacking, total = len(jars.missing(settings.cache_dir)), len(jars.locked())
    if lacking:
        yield Finding("Kafka archives", "ok", f"{lacking} of {total} not yet fetched", "the first start fetches 43 MB")
    else:
        yield Finding("Kafka archives", "ok", f"{jars.KAFKA_VERSION} in {jars.directory(settings.cache_dir)}")


def _memory(_: Settings) -> Iterator[Finding]:
    memory = psutil.virtual_memory().available
    good = memory >= MEMORY_MIN_BYTES
    advice = "" if good else f"{MEMORY_MIN_BYTES >> 30} GB are comfortable: close something"
    yield Finding("memory", "ok" if good else "optional", f"{memory / 2**30:.1f} GB available", advice)


def _disk(settings: Settings) -> Iterator[Finding]:
    for name, place in (("data", settings.data_dir), ("cache", settings.cache_dir)):
        there = next(parent for parent in (place.absolute(), *place.absolute().parents) if parent.exists())
        free, writable = shutil.disk_usage(there).free, os.access(there, os.W_OK)
        if not writable:
            yield Finding(
                f"disk for {name}", "missing", f"{there} cannot be written", f"set CROSSFADE_{name.upper()}_DIR"
            )
        else:
            good = free >= DISK_MIN_BYTES
            advice = (
                "" if good else f"{DISK_MIN_BYTES >> 30} GB are needed: free some, or set CROSSFADE_{name.upper()}_DIR"
            )
            yield Finding(f"disk for {name}", "ok" if good else "missing", f"{free / 2**30:.0f} GB free", advice)


def _ports(settings: Settings) -> Iterator[Finding]:
    if home.is_held(settings.data_dir):
        yield Finding("ports", "ok", "Crossfade is running")
        return
    for port, host, advice in (
        (settings.web_port, settings.web_host, "./start_local.sh --port another"),
        (settings.collector_port, settings.collector_host, "set CROSSFADE_COLLECTOR_PORT"),
    ):
        if ports.is_free(port, host):
            yield Finding(f"port {port}", "ok", "free")
        else:
            yield Finding(f"port {port}", "missing", f"taken by {ports.holder(port)}", advice)


def _downloads(settings: Settings) -> Iterator[Finding]:
    if settings.kafka_bootstrap_servers or not jars.missing(settings.cache_dir):
        return
    host = "repo.maven.apache.org"
    if os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy"):
        yield Finding("Maven Central", "ok", "asked through HTTPS_PROXY")
        return
    try:
        with socket.create_connection((host, 443), timeout=5):
            yield Finding("Maven Central", "ok", f"{host} answers")
    except OSError as error:
        yield Finding("Maven Central", "missing", f"{host}: {error}", "needed once; or set KAFKA_BOOTSTRAP_SERVERS")


def _containers(_: Settings) -> Iterator[Finding]:
    docker = shutil.which("docker")
    if docker is None:
        yield Finding("Docker", "optional", "not installed", "only for docker-compose.yml")
        return
    try:
        subprocess.run([docker, "compose", "version"], capture_output=True, timeout=10, check=True)
        yield Finding("Docker", "ok", docker)
    except (OSError, subprocess.SubprocessError):
        yield Finding("Docker", "optional", "without the compose plugin", "only for docker-compose.yml")


def _claude(settings: Settings) -> Iterator[Finding]:
    if settings.anthropic_api_key.get_secret_value():
        yield Finding("Claude", "ok", f"key is set, model {settings.anthropic_model}")
    else:
        yield Finding("Claude", "optional", "no key: rules answer mood and genre", "set ANTHROPIC_API_KEY")


def _warehouse(settings: Settings) -> Iterator[Finding]:
    if settings.warehouse == "duckdb":
        yield Finding("warehouse", "ok", f"DuckDB, {settings.duckdb_file}")
        return
    if not settings.bigquery_project:
        yield Finding("warehouse", "missing", "BigQuery without a project", "set CROSSFADE_BIGQUERY_PROJECT")
    if settings.bigquery_endpoint:
        yield Finding("warehouse", "ok", f"BigQuery at {settings.bigquery_endpoint}")
        return
    key = os.environ.get("GOOGLE_APPLICATION_CREDENTIALS", "")
    gcloud = Path(os.environ.get("CLOUDSDK_CONFIG", Path.home() / ".config" / "gcloud"))
    if (key and Path(key).exists()) or (gcloud / "application_default_credentials.json").exists():
        yield Finding("BigQuery credentials", "ok", key or "gcloud's application default")
    else:
        advice = "gcloud auth application-default login, or set GOOGLE_APPLICATION_CREDENTIALS"
        yield Finding("BigQuery credentials", "missing", "none found", advice)
