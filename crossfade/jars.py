"""Fetches the Java archives of the embedded Kafka from Maven Central; each must have the hash in kafka_jars.lock."""

from __future__ import annotations

import errno
import hashlib
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from crossfade.problem import ProblemError

KAFKA_VERSION = "4.1.2"
ROOTS = (f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}", "org.slf4j:slf4j-simple:1.7.36")
LOCK = Path(__file__).with_name("kafka_jars.lock")
THREADS = 8
ATTEMPTS = 3
_STALE_S = 3600
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS}

Progress = Callable[[int, int], None]
"""Called with (archives that are there, archives in all)."""


class JarsUnavailableError(ProblemError):
    """The archives cannot be had; the message says what to do."""


@dataclass(frozen=True)
class Jar:
    """One archive: its Maven coordinate, and the SHA-256 that it must have."""

    coordinate: str
    sha256: str

    @property
    def filename(self) -> str:
        """The name that the archive has in Maven Central."""
        _, artifact, version = self.coordinate.split(":")
        return f"{artifact}-{version}.jar"


def locked() -> list[Jar]:
    """The archives of the lock file."""
    lines = [line for line in LOCK.read_text().splitlines() if line and not line.startswith("#")]
    return [Jar(*line.split()) for line in lines]


def directory(cache_dir: Path) -> Path:
    """Where the archives of this lock file are kept: another lock is another directory."""
    return cache_dir / f"kafka-{KAFKA_VERSION}-{hashlib.sha256(LOCK.read_bytes()).hexdigest()[:8]}"


def missing(cache_dir: Path) -> list[Jar]:
    """The archives that are still to be fetched. An archive gets its name only when it is complete and checked."""
    home = directory(cache_dir)
    return [jar for jar in locked() if not (home / jar.filename).exists()]


def fetch(cache_dir: Path, progress: Progress) -> Path:
    """Brings all archives into the cache and returns their directory; without network when they are there already.

    Raises JarsUnavailableError: no network, no disk, or an archive that is not the one of the lock file.
    """
    home, wanted, total = directory(cache_dir), missing(cache_dir), len(locked())
    if not wanted:
        return home
    try:
        home.mkdir(parents=True, exist_ok=True)
        for left in cache_dir.glob("fetch-*"):  # by a start that was cut short
            if time.time() - left.stat().st_mtime > _STALE_S:
                shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix="fetch-", dir=cache_dir, ignore_cleanup_errors=True) as room:
            progress(total - len(wanted), total)
            pool = ThreadPoolExecutor(THREADS)
            try:
                tasks = [pool.submit(_fetch_one, jar, home, Path(room)) for jar in wanted]
                for count, task in enumerate(as_completed(tasks), start=total - len(wanted) + 1):
                    task.result()
                    progress(count, total)
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
    except OSError as error:
        raise JarsUnavailableError(
            f"The Kafka archives cannot be kept in {cache_dir} ({error}). They need 45 MB: free some disk, "
            "or set CROSSFADE_CACHE_DIR to a directory that can be written."
        ) from None
    return home


def _fetch_one(jar: Jar, home: Path, room: Path) -> None:
    from jgo.maven import MavenContext  # noqa: PLC0415 - takes 0.3 s, and only the first start needs it

    problem = ""
    for attempt in range(ATTEMPTS):
        context = MavenContext(repo_cache=room / f"{jar.filename}.{attempt}", timeout=30)
        try:
            found = context.create_dependency(jar.coordinate).artifact.resolve()
        except Exception as error:  # jgo and requests raise many kinds; each of them means: not fetched
            if isinstance(error, OSError) and error.errno in _DISK:
                raise
            problem = f"{type(error).__name__}: {error}"
            continue
        if hashlib.sha256(found.read_bytes()).hexdigest() == jar.sha256:
            found.replace(home / jar.filename)
            return
        problem = "what arrived has another SHA-256 than the lock file says"
    raise JarsUnavailableError(
        f"{jar.coordinate} could not be fetched from Maven Central ({problem[:300]}). Check the network (a proxy is "
        "taken from HTTPS_PROXY, certificates from REQUESTS_CA_BUNDLE) and start again, or set "
        "KAFKA_BOOTSTRAP_SERVERS to use a Kafka of your own."
    )


def lock() -> str:
    """The text of a new lock file: resolves ROOTS and hashes what they need. Run by hand when the version changes."""
    from jgo.maven import MavenContext  # noqa: PLC0415

    room = Path(tempfile.mkdtemp(prefix="lock-"))
    try:
        context = MavenContext(repo_cache=room, timeout=30)
        roots, rest = context.resolver.resolve([context.create_dependency(root) for root in ROOTS])
        with ThreadPoolExecutor(THREADS) as pool:
            files = list(pool.map(lambda dependency: dependency.artifact.resolve(), [*roots, *rest]))
        lines = [
            f"{d.groupId}:{d.artifactId}:{d.version} {hashlib.sha256(file.read_bytes()).hexdigest()}"
            for d, file in zip([*roots, *rest], files, strict=True)
        ]
    finally:
        shutil.rmtree(room)
    return "\n".join(["# Made by `python -m crossfade.jars`: Maven coordinate and SHA-256.", *sorted(lines), ""])


if __name__ == "__main__":
    text = lock()
    draft = LOCK.with_suffix(".draft")
    draft.write_text(text)
    draft.replace(LOCK)
    sys.stdout.write(text)
