"""A schema registry that speaks Confluent's API: Apicurio from Maven Central, kept in the cache."""

from __future__ import annotations

import subprocess
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from crossfade.child import with_parent
from crossfade.kafka import KafkaStartError, java
from crossfade.ports import reserve
from schemas.settings import Settings

VERSION = "3.3.3"


def archive() -> Path:
    """The unpacked registry; skips the test, with the reason, where it cannot be had (159 MB, once)."""
    home = Settings().cache_dir / f"apicurio-{VERSION}"
    if home.exists():
        return home
    from jgo.maven import MavenContext  # noqa: PLC0415 - takes 0.3 s, and only the first test needs it

    try:
        home.parent.mkdir(parents=True, exist_ok=True)
        project = MavenContext(timeout=60).project("io.apicurio", "apicurio-registry-app")
        packed = project.at_version(VERSION).artifact("all", "tar.gz").resolve()
        room = Path(tempfile.mkdtemp(prefix="fetch-", dir=home.parent))
        with tarfile.open(packed) as tar:
            tar.extractall(room, filter="data")
        room.rename(home)
    except Exception as error:  # jgo and requests raise many kinds; each of them means: not here
        pytest.skip(f"the schema registry cannot be fetched: {type(error).__name__}: {error}")
    return home


class RegistryServer:
    """One node with its data in `home`; may be stopped and started again."""

    def __init__(self, home: Path) -> None:
        try:
            self._java = java()
        except KafkaStartError as error:
            pytest.skip(str(error))
        self._archive, self._home, self._port = archive(), home, reserve(21_480)
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"http://127.0.0.1:{self._port}/apis/ccompat/v7"

    def start(self) -> None:
        """Returns when it answers."""
        command = [
            str(self._java),
            "-Xmx384m",
            "-Dquarkus.http.host=127.0.0.1",
            f"-Dquarkus.http.port={self._port}",
            "-Dquarkus.management.enabled=false",
            f"-Dapicurio.datasource.url=jdbc:h2:file:{self._home / 'registry'}",
            "-jar",
            str(self._archive / "quarkus-run.jar"),
        ]
        with (self._home / "registry.log").open("ab") as log:
            self._process = subprocess.Popen(with_parent(command), cwd=self._home, stdout=log, stderr=log)
        end = time.monotonic() + 90
        while True:
            try:
                with urllib.request.urlopen(self.url + "/subjects", timeout=2):
                    return
            except (urllib.error.URLError, OSError):
                assert self._process.poll() is None, (self._home / "registry.log").read_text()[-3000:]
                assert time.monotonic() < end, "the registry does not answer"
                time.sleep(0.1)

    def stop(self) -> None:
        """Cleanly: its database loses the last second when it is killed."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
            self._process = None
