"""Brings the other engines into the cache: a Python environment each, made by uv, and Java programs built by Maven."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

from crossfade.kafka import java_version
from schemas.settings import Settings

HERE = Path(__file__).parent
PYTHON = "3.11"
"""Bytewax has no wheel for the newest Pythons."""
_INSTALL_S = 600.0
_JAVA_MIN = 17


class UnavailableError(RuntimeError):
    """An engine cannot be had on this machine; the message says why."""


def _home() -> Path:
    return Settings().cache_dir / "bench"


@cache
def environment(name: str) -> Path:
    """The Python of the environment made from `requirements/<name>.txt`; raises UnavailableError."""
    requirements = HERE / "requirements" / f"{name}.txt"
    home = _home() / f"{name}-{_digest(requirements)}"
    python = home / "bin" / "python"
    if (home / "complete").exists():
        return python
    beside = Path(sys.executable).with_name("uv")
    uv = str(beside) if beside.exists() else shutil.which("uv")
    if uv is None:
        raise UnavailableError("uv is not installed")
    _run([uv, "venv", "-q", "--clear", "--no-python-downloads", "-p", PYTHON, str(home)])
    _run([uv, "pip", "install", "-q", "-p", str(python), "-r", str(requirements)])
    (home / "complete").touch()
    return python


@cache
def classpath(name: str) -> list[str]:
    """The command `java -cp ...` for the project `java/<name>`, built once; raises UnavailableError."""
    java = shutil.which("java") if "JAVA_HOME" not in os.environ else str(Path(os.environ["JAVA_HOME"], "bin", "java"))
    if java is None or java_version(Path(java)) < _JAVA_MIN:
        raise UnavailableError(f"no JDK {_JAVA_MIN} or newer")
    if (maven := shutil.which("mvn")) is None:
        raise UnavailableError("Maven (mvn) is not installed")
    project = HERE / "java" / name / "pom.xml"
    home = _home() / f"{name}-{_digest(project, *sorted((HERE / 'java' / 'src').rglob('*.java')))}"
    if not (home / "complete").exists():
        _run([maven, "-q", "-B", "-f", str(project), "package", f"-Dbench.target={home}"])
        (home / "complete").touch()
    return [java, "-cp", f"{home / 'jars' / '*'}:{home / 'classes'}"]


def _digest(*files: Path) -> str:
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:8]


def _run(command: list[str]) -> None:
    print(f"installing: {' '.join(command[:3])} ...", file=sys.stderr)
    try:
        answer = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=_INSTALL_S, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnavailableError(f"{Path(command[0]).name} did not finish: {type(error).__name__}") from None
    if answer.returncode:
        said = [line for line in (answer.stdout + answer.stderr).splitlines() if line.replace("[ERROR]", "").strip()]
        raise UnavailableError(f"{Path(command[0]).name} failed: {said[0][:200] if said else answer.returncode}")
