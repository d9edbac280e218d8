"""The collector keeps what its OpenAPI document promises: schemathesis asks it, on a real Kafka."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from schemas.settings import HOME, Settings
from tests.pipeline.test_collector import collector

CONFIG = """
hooks = "tests.pipeline.contract"
[auth.openapi.key]
bearer = "${COLLECTOR_KEY}"
[auth.openapi.page_key]
api_key = "${COLLECTOR_KEY}"
[checks.negative_data_rejection]
expected-statuses = ["4xx", "202"]  # events are refused one by one, which `judged_as_described` checks
"""


@pytest.mark.timeout(180)
def test_the_openapi_document_is_kept(kafka: Settings, tmp_path: Path) -> None:
    """Right and wrong requests pass all checks; an event is rejected exactly when its documented schema says so."""
    config = tmp_path / "schemathesis.toml"
    config.write_text(CONFIG)
    with collector(kafka, tmp_path) as client:
        answer = contract(client, config, tmp_path)
    assert answer.returncode == 0, answer.stdout + answer.stderr


def contract(client: httpx.Client, config: Path, home: Path) -> subprocess.CompletedProcess[str]:
    key = client.headers["authorization"].removeprefix("Bearer ")
    program = Path(sys.executable).with_name("schemathesis")
    limits = ["--max-examples", "60", "--suppress-health-check", "all", "--seed", "1", "--warnings", "off"]
    return subprocess.run(
        [program, "--config-file", config, "run", f"{client.base_url}/openapi.json", "--checks", "all", *limits],
        cwd=home,
        env={**os.environ, "COLLECTOR_KEY": key, "PYTHONPATH": str(HOME)},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
