"""A data directory and a port for each test."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from schemas.settings import Settings


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings of an own warehouse."""
    return Settings(data_dir=tmp_path, quack_port=free_port())
