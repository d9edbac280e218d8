"""Containers, scrape targets, rules, board and runbooks: all of the same stages and metrics."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import prometheus_client
import pytest
import yaml

from crossfade import compose
from crossfade.stages import STAGES
from schemas import metrics
from schemas.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
OPS = ROOT / "ops"
RULES = OPS / "rules.yml"
BOARD = OPS / "grafana" / "boards" / "crossfade.json"


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def known_samples() -> set[str]:
    """Every sample name that a metric of schemas.metrics can have."""
    names: set[str] = set()
    for metric in vars(metrics).values():
        if isinstance(metric, prometheus_client.Counter):
            names.add(f"{metric._name}_total")
        elif isinstance(metric, prometheus_client.Gauge):
            names.add(metric._name)
        elif isinstance(metric, prometheus_client.Histogram):
            names |= {f"{metric._name}_{part}" for part in ("bucket", "count", "sum")}
    return names


def test_the_committed_compose_file_is_the_generated_one() -> None:
    """docker-compose.yml follows the stage list: `crossfade compose > docker-compose.yml` after a change."""
    assert (ROOT / "docker-compose.yml").read_text() == compose.text()


def test_every_stage_is_a_container_that_is_scraped() -> None:
    """No stage is forgotten in docker-compose.yml, nor by Prometheus at the place where it listens."""
    services = yaml.safe_load(compose.text())["services"]
    workers, rest = yaml.safe_load((OPS / "prometheus.yml").read_text())["scrape_configs"]
    targets = {entry["labels"]["stage"]: entry["targets"] for entry in rest["static_configs"]}
    (replicas,) = workers["dns_sd_configs"]
    assert {"target_label": "job", "replacement": "crossfade"} in workers["relabel_configs"], "rules ask for this job"
    targets["worker"] = [f"{name}:{replicas['port']}" for name in replicas["names"]]
    for stage in STAGES:
        assert services[stage.name]["command"] == f"python -m {stage.module}"
        host = "sinks" if stage.reader else stage.name
        assert targets[stage.name] == [f"{host}:{Settings.model_fields[stage.port_field].default}"]
    assert set(targets) == {stage.name for stage in STAGES}


def test_only_this_machine_reaches_the_containers() -> None:
    """Published ports are bound to loopback: keys and pages are not offered to the network."""
    services = yaml.safe_load(compose.text())["services"]
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)
    assert len({port.split(":")[1] for port in published}) == len(published)


@pytest.mark.skipif(
    shutil.which("docker") is None
    or subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode != 0,
    reason="docker with the compose plugin is not installed",
)
def test_docker_reads_the_compose_file() -> None:
    """Docker itself finds nothing wrong."""
    answer = subprocess.run(
        ["docker", "compose", "config", "--quiet"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert answer.returncode == 0, answer.stderr


@pytest.mark.parametrize("file", [RULES, BOARD], ids=lambda file: file.name)
def test_rules_and_board_ask_for_metrics_that_exist(file: Path) -> None:
    """A metric that was renamed cannot leave an alert behind that never fires."""
    asked = set(re.findall(r"\bcrossfade_\w+", file.read_text()))
    assert asked
    assert asked <= known_samples()


def test_every_alert_leads_to_a_runbook() -> None:
    """Whoever is woken finds what to do."""
    for rule in rules():
        assert rule["labels"]["severity"] in ("warning", "critical")
        runbook = ROOT / rule["annotations"]["runbook"]
        assert runbook.is_file(), rule["alert"]


def test_inhibited_alerts_exist() -> None:
    """Names in Alertmanager's rules are names of alerts."""
    names = {rule["alert"] for rule in rules()}
    text = json.dumps(yaml.safe_load((OPS / "alertmanager.yml").read_text())["inhibit_rules"])
    asked = {name for matched in re.findall(r'alertname =~? \\"([^"\\]+)', text) for name in matched.split("|")}
    assert asked
    assert asked <= names


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool (package prometheus) is not installed")
def test_prometheus_reads_the_rules() -> None:
    """Prometheus' own tool finds nothing wrong."""
    answer = subprocess.run(
        ["promtool", "check", "rules", str(RULES)], capture_output=True, text=True, timeout=60, check=False
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_board_panels_do_not_overlap() -> None:
    """Every panel of the Grafana board has its place, its question and its unit."""
    cells: set[tuple[int, int]] = set()
    for panel in json.loads(BOARD.read_text())["panels"]:
        place = panel["gridPos"]
        own = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not own & cells, panel["title"]
        assert max(x for x, _ in own) < 24
        assert all(target["expr"] for target in panel["targets"])
        cells |= own
