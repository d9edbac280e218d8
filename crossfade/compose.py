"""Makes docker-compose.yml from the list of stages and the settings: the pipeline as containers, with its watchers."""

from __future__ import annotations

from typing import Any

import yaml

from crossfade.jars import KAFKA_VERSION
from crossfade.stages import STAGES, WORKER_MODULE, Stage
from schemas.settings import Settings
from schemas.topics import MESSAGE_MAX_BYTES

HEAD = """\
# The pipeline as containers, with Prometheus, Alertmanager and Grafana. Made by `crossfade compose`: change
# crossfade/compose.py or crossfade/stages.py instead, and run `crossfade compose > docker-compose.yml`.
#
#   docker compose up --build                                       page: http://localhost:8000
#   docker compose run --rm setup crossfade key                     the collector's development key
#   docker compose run --rm setup crossfade simulate --events 10000
#
# Settings (ANTHROPIC_API_KEY, CROSSFADE_WAREHOUSE, ...) are taken from the file .env beside this one; CROSSFADE_WORKERS
# says how many workers share the partitions.
"""

KAFKA_PORT = 9092
KAFKA_HOST_PORT = 29092
_IMAGE = "crossfade"
_WATCHERS = {
    "prometheus": ("prom/prometheus:v3.5.0", 9090),
    "alertmanager": ("prom/alertmanager:v0.28.1", 9093),
    "grafana": ("grafana/grafana:12.1.0", 3000),
}


def text() -> str:
    """The file. It depends on nothing but the code: settings of this machine do not leak into it."""
    services = {"kafka": _kafka(), "setup": _setup(), **{stage.name: _stage(stage) for stage in STAGES}, **_watchers()}
    volumes: dict[str, Any] = {name: {} for name in ("kafka", "data", "prometheus", "grafana")}
    document = {"name": "crossfade", "services": services, "volumes": volumes}
    return HEAD + "\n" + yaml.safe_dump(document, sort_keys=False, width=120)


def _default(field: str) -> Any:
    return Settings.model_fields[field].default


def _environment() -> dict[str, str]:
    hosts = {f"CROSSFADE_{name.upper()}": "0.0.0.0" for name in sorted({stage.host_field for stage in STAGES})}  # noqa: S104
    return {"KAFKA_BOOTSTRAP_SERVERS": f"kafka:{KAFKA_PORT}", "CROSSFADE_DATA_DIR": "/data", **hosts}


def _ours(command: str) -> dict[str, Any]:
    return {
        "image": _IMAGE,
        "build": ".",
        "command": command,
        "environment": _environment(),
        "env_file": [{"path": ".env", "required": False}],
        "volumes": ["data:/data"],
    }


def _published(stage: Stage) -> list[str]:
    """Only what people and clients use is reachable from outside, and only from this machine."""
    if stage.host_field == "stage_host":
        return []
    port = _default(stage.port_field)
    return [f"127.0.0.1:{port}:{port}"]


def _stage(stage: Stage) -> dict[str, Any]:
    port = _default(stage.port_field)
    probe = f"import urllib.request; urllib.request.urlopen('http://127.0.0.1:{port}/healthz', timeout=3)"
    service: dict[str, Any] = {
        **({"deploy": {"replicas": "${CROSSFADE_WORKERS:-1}"}} if stage.module == WORKER_MODULE else {}),
        **_ours(f"python -m {stage.module}"),
        "depends_on": {"setup": {"condition": "service_completed_successfully"}},
        "healthcheck": {
            "test": ["CMD", "python", "-c", probe],
            "interval": "10s",
            "timeout": "5s",
            "retries": 6,
            "start_period": "30s",
        },
        "restart": "unless-stopped",
        "stop_grace_period": "10s",
    }
    if stage.reader:  # the embedded warehouse listens on the sink's loopback, so they share it
        service["network_mode"] = "service:sinks"
        service["depends_on"]["sinks"] = {"condition": "service_started", "restart": True}
        return service
    guests = [other for other in STAGES if other.reader] if stage.name == "sinks" else []
    if ports := [port for one in (stage, *guests) for port in _published(one)]:
        service["ports"] = ports
    return service


def _setup() -> dict[str, Any]:
    return {
        **_ours("sh -c 'crossfade topics apply && crossfade key > /dev/null'"),
        "depends_on": {"kafka": {"condition": "service_healthy"}},
    }


def _kafka() -> dict[str, Any]:
    listeners = {"CONTROLLER": 9094, "PLAINTEXT": KAFKA_PORT, "HOST": KAFKA_HOST_PORT}
    environment = {
        "KAFKA_NODE_ID": 1,
        "KAFKA_PROCESS_ROLES": "broker,controller",
        "KAFKA_CONTROLLER_QUORUM_VOTERS": f"1@localhost:{listeners['CONTROLLER']}",
        "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "KAFKA_LISTENERS": ",".join(f"{name}://:{port}" for name, port in listeners.items()),
        "KAFKA_ADVERTISED_LISTENERS": f"PLAINTEXT://kafka:{KAFKA_PORT},HOST://localhost:{KAFKA_HOST_PORT}",
        "KAFKA_INTER_BROKER_LISTENER_NAME": "PLAINTEXT",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": ",".join(f"{name}:PLAINTEXT" for name in listeners),
        "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": 1,
        "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": 1,
        "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": 1,
        "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": 0,
        "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
        "KAFKA_MESSAGE_MAX_BYTES": MESSAGE_MAX_BYTES,
        "KAFKA_SOCKET_SEND_BUFFER_BYTES": -1,
        "KAFKA_SOCKET_RECEIVE_BUFFER_BYTES": -1,
        "KAFKA_LOG_DIRS": "/var/lib/kafka/data",
    }
    probe = f"/opt/kafka/bin/kafka-broker-api-versions.sh --bootstrap-server localhost:{KAFKA_PORT}"
    return {
        "image": f"apache/kafka:{KAFKA_VERSION}",
        "environment": environment,
        "ports": [f"127.0.0.1:{KAFKA_HOST_PORT}:{KAFKA_HOST_PORT}"],
        "volumes": ["kafka:/var/lib/kafka/data"],
        "healthcheck": {
            "test": ["CMD-SHELL", probe],
            "interval": "5s",
            "timeout": "10s",
            "retries": 12,
            "start_period": "20s",
        },
        "restart": "unless-stopped",
    }


def _watchers() -> dict[str, Any]:
    volumes = {
        "prometheus": [
            "./ops/prometheus.yml:/etc/prometheus/prometheus.yml:ro",
            "./ops/rules.yml:/etc/prometheus/rules.yml:ro",
            "prometheus:/prometheus",
        ],
        "alertmanager": ["./ops/alertmanager.yml:/etc/alertmanager/alertmanager.yml:ro"],
        "grafana": [
            "./ops/grafana/provisioning:/etc/grafana/provisioning:ro",
            "./ops/grafana/boards:/etc/grafana/boards:ro",
            "grafana:/var/lib/grafana",
        ],
    }
    services: dict[str, Any] = {
        name: {
            "image": image,
            "ports": [f"127.0.0.1:{port}:{port}"],
            "volumes": volumes[name],
            "restart": "unless-stopped",
        }
        for name, (image, port) in _WATCHERS.items()
    }
    services["grafana"]["environment"] = {"GF_AUTH_ANONYMOUS_ENABLED": "true", "GF_AUTH_ANONYMOUS_ORG_ROLE": "Viewer"}
    services["grafana"]["depends_on"] = ["prometheus"]
    return services
