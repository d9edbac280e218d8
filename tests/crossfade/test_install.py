"""The installation script: no work when nothing changed, pip's configuration for uv, plain messages."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "crossfade" / "install.sh"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout whose environment is what the lock says."""
    root = tmp_path / "a checkout"
    (root / ".venv").mkdir(parents=True)
    (root / "pyproject.toml").write_text("[project]\n")
    (root / "requirements.lock").write_text("uv==1 \\\n    --hash=sha256:0\n")
    text = f"{root}\n" + (root / "pyproject.toml").read_text() + (root / "requirements.lock").read_text()
    (root / ".venv" / "stamp").write_text(text)
    return root


@pytest.fixture
def no_python(tmp_path: Path) -> str:
    """A path with the basic tools and no Python."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("bash", "cat", "cmp"):
        (tools / tool).symlink_to(next(p for d in ("/usr/bin", "/bin") if (p := Path(d, tool)).exists()))
    return str(tools)


def source(root: Path, then: str = "true", **environment: str) -> subprocess.CompletedProcess[str]:
    """Sources the script as start_local.sh does."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("UV_", "PIP_", "SSL_", "PYTHON"))}
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f"root=$1; . '{SCRIPT}'; {then}", "-", str(root)],
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_nothing_is_done_when_nothing_changed(checkout: Path, no_python: str) -> None:
    """A warm start needs neither network nor Python to see that the environment is right."""
    answer = source(checkout, "echo ready", PATH=no_python)
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "ready\n", "")


@pytest.mark.parametrize("changed", ["pyproject.toml", "requirements.lock", ".venv/stamp"])
def test_a_change_installs_again(checkout: Path, changed: str, no_python: str) -> None:
    """Another lock or project file, or an environment of another checkout, is not taken for the right one.

    Here there is no Python to install with: one message says how to get one, and nothing else runs.
    """
    with (checkout / changed).open("a") as file:
        file.write("# changed\n")
    answer = source(checkout, "echo not reached", PATH=no_python)
    assert answer.returncode == 1
    assert answer.stdout == ""
    assert "Python 3.11 or newer was not found" in answer.stderr
    assert "PYTHON=/path/to/python" in answer.stderr


def test_an_environment_that_is_a_link_is_left_alone(checkout: Path, tmp_path: Path) -> None:
    """Installing would empty the environment of another checkout."""
    (checkout / ".venv").rename(tmp_path / "shared")
    (tmp_path / "shared" / "stamp").write_text("of another checkout\n")
    (checkout / ".venv").symlink_to(tmp_path / "shared")
    answer = source(checkout)
    assert answer.returncode == 1
    assert ".venv is a link to" in answer.stderr
    assert "rm .venv" in answer.stderr
    assert (tmp_path / "shared" / "stamp").read_text() == "of another checkout\n"


def test_uv_takes_the_configuration_of_pip() -> None:
    """An index, a proxy's certificates and a time-out that pip knows are uv's too; what is set for uv stays."""
    told = "as_pip_is_configured; env | grep -E '^(UV_|SSL_CERT_FILE)'"
    functions = f". <(sed '/^stamp | cmp/d' '{SCRIPT}')"
    answer = subprocess.run(
        ["bash", "-c", f"root=$1; {functions}; {told}", "-", str(ROOT)],
        env={
            "PATH": os.environ["PATH"],
            "HOME": "/nonexistent",
            "PIP_INDEX_URL": "https://index.example/simple",
            "PIP_CERT": "/etc/some.pem",
            "PIP_DEFAULT_TIMEOUT": "77",
            "UV_INSECURE_HOST": "mine.example",
            "PIP_TRUSTED_HOST": "index.example",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    found = dict(line.split("=", 1) for line in answer.stdout.splitlines())
    assert found["UV_DEFAULT_INDEX"] == "https://index.example/simple"
    assert found["SSL_CERT_FILE"] == "/etc/some.pem"
    assert found["UV_HTTP_TIMEOUT"] == "77"
    assert found["UV_INSECURE_HOST"] == "mine.example"


def test_a_failing_step_shows_its_last_lines(checkout: Path) -> None:
    """Whoever sits before a failed installation sees why."""
    answer = source(checkout, "step 'a step' bash -c 'echo the reason; exit 3' || echo status $?")
    assert "the reason" in answer.stderr
    assert answer.stdout == "status 3\n"


def test_the_lock_names_no_host_and_has_hashes() -> None:
    """Every package is pinned with hashes, and where it is fetched from is the user's configuration."""
    lock = (ROOT / "requirements.lock").read_text()
    packages = [line for line in lock.splitlines() if line and not line.startswith((" ", "#"))]
    assert all("==" in line and line.endswith("\\") for line in packages)
    assert "://" not in lock
    assert any(line.startswith("uv==") for line in packages)
    assert any(line.startswith("hatchling==") for line in packages)
