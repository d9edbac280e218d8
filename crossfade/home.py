"""The data directory of one running pipeline: who holds it, the development key, the endpoints, and its emptying."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import psutil

from crossfade.problem import ProblemError
from schemas.settings import CHECKOUT

LOCK_FILE = "run.lock"
_LEFTOVER_S = 2.0


class HomeError(ProblemError):
    """The data directory cannot be used; the message says what to do."""


@contextlib.contextmanager
def held(data_dir: Path) -> Iterator[None]:
    """Holds the directory for this process; raises HomeError when another run holds it or it cannot be written."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        lock = (data_dir / LOCK_FILE).open("a+")
    except OSError as error:
        raise HomeError(
            f"{data_dir} cannot be written ({error.strerror}): set CROSSFADE_DATA_DIR to a directory that can."
        ) from None
    with lock:
        if not _lock(lock):
            holder = _note(lock.name)
            raise HomeError(
                f"Crossfade runs already on {data_dir}: process {holder.get('pid', '?')}, since "
                f"{holder.get('since', '?')}. Stop it with Ctrl-C there (or: kill {holder.get('pid', 'PID')}), or set "
                "CROSSFADE_DATA_DIR to run another one."
            )
        _end_leftovers(_note(lock.name).get("children", []))
        note(data_dir, [])
        try:
            yield
        finally:
            note(data_dir, [])


def _lock(file: IO[str]) -> bool:
    """Tries for a moment: another command may just be looking whether somebody holds the lock."""
    for _ in range(5):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            time.sleep(0.05)
        else:
            return True
    return False


def is_held(data_dir: Path) -> bool:
    """Whether a run holds the directory."""
    try:
        with (data_dir / LOCK_FILE).open("r") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def note(data_dir: Path, children: list[int]) -> None:
    """Notes who runs and with which processes, for those who find the directory held, or left by a killed run."""
    known = []
    for pid in children:
        with contextlib.suppress(psutil.Error):
            known.append([pid, psutil.Process(pid).create_time()])
    since = time.strftime("%H:%M:%S", time.localtime(psutil.Process().create_time()))
    text = json.dumps({"pid": os.getpid(), "since": since, "children": known})
    with contextlib.suppress(OSError):  # a full disk must not end the run; the note is a courtesy
        (data_dir / LOCK_FILE).write_text(text)


def _note(path: str) -> dict[str, Any]:
    try:
        found = json.loads(Path(path).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _end_leftovers(children: list[list[float]]) -> None:
    """Ends processes of a run that was killed, where the system did not (crossfade.child)."""
    left = []
    for pid, created in children:
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(int(pid))
            if abs(process.create_time() - created) < 0.1:
                process.kill()
                left.append(process)
    psutil.wait_procs(left, timeout=_LEFTOVER_S)


def empty(data_dir: Path) -> None:
    """Removes everything but the lock; raises HomeError when something cannot be removed, or should not be."""
    resolved = data_dir.resolve()
    if any(place.resolve().is_relative_to(resolved) for place in (Path.home(), CHECKOUT)):
        raise HomeError(
            f"--fresh would remove everything in {data_dir}: set CROSSFADE_DATA_DIR to a directory of its own."
        )
    for entry in data_dir.iterdir():
        if entry.name == LOCK_FILE:
            continue
        try:
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
        except OSError as error:
            raise HomeError(f"{entry} cannot be removed ({error.strerror}); remove it by hand.") from None


def development_key(path: Path) -> str:
    """The collector's development key; made at the first start, readable by its owner only."""
    with contextlib.suppress(OSError):
        if key := path.read_text().strip():
            return key
    key = f"cf_dev_{secrets.token_urlsafe(24)}"
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(key + "\n")
    return key


def write_endpoints(path: Path, endpoints: dict[str, Any]) -> None:
    """Tells other commands where the running pipeline is."""
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(endpoints, indent=2) + "\n")
    draft.replace(path)
