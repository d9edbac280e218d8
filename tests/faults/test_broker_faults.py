"""What goes wrong with Kafka: it is killed, its disk is full, the network to it is cut or slow."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from crossfade import kafka, ports
from crossfade.child import with_parent
from schemas.settings import Settings
from tests.faults.conftest import Rig, fill

pytestmark = pytest.mark.long

TOXIPROXY = "github.com/Shopify/toxiproxy/v2/cmd/server@v2.12.0"


@pytest.mark.timeout(300)
def test_the_broker_is_killed_and_comes_back(rig: Callable[..., Rig]) -> None:
    """Three times, while events flow, once together with a worker: what was acknowledged is there, once."""
    it = rig(events=60_000, workers=2)
    it.start_stages()
    thread = it.sending(1.0, 30.0)
    for victims in (("kafka",), ("kafka", "worker-1"), ("kafka",)):
        it.pause(6.0)
        it.kill(*victims)
    it.wait_for(thread)
    it.finish()


@pytest.mark.timeout(300)
def test_everything_is_restarted_at_once(rig: Callable[..., Rig]) -> None:
    """Kill -9 of broker, workers and sink in the same moment, three times: as a machine that reboots."""
    it = rig(events=60_000, workers=2)
    it.start_stages()
    thread = it.sending(1.0, 30.0)
    for _ in range(3):
        it.pause(6.0)
        it.kill("kafka", "worker-1", "worker-2", "sinks")
    it.wait_for(thread)
    it.finish()


@pytest.mark.timeout(300)
def test_a_full_disk_under_the_broker(rig: Callable[..., Rig], small_disk: Callable[[Path, int], Path]) -> None:
    """Kafka stops for want of room and comes back when there is some; nothing that it acknowledged is missing."""
    it = rig(events=60_000, kafka=False)
    ballast = small_disk(it.settings.data_dir / "kafka", 1300)
    it.start_kafka()
    it.start_stages()
    it.send(0.4)
    fill(ballast, 1 << 20)
    thread = it.sending(1.0)
    broker = it.pipeline.broker
    assert broker is not None
    it.until(lambda: broker.restarts >= 2, "Kafka dying for want of room", 90)
    ballast.unlink()
    it.wait_for(thread)
    it.finish()


class Toxiproxy:
    """A network that fails on demand, in front of the broker."""

    def __init__(self, program: Path) -> None:
        # below the ports that clients are given: one of theirs would take this one while the network is cut
        self.port, self.listens = ports.reserve(31_000), ports.reserve(31_100)
        self._process = subprocess.Popen(
            with_parent([str(program), "-host", "127.0.0.1", "-port", str(self.port)]),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request(method, path, json.dumps(body) if body is not None else None)
        answer = connection.getresponse()
        said = answer.read().decode()
        assert answer.status < 300, said

    def stand_before(self, port: int) -> None:
        for _ in range(100):
            try:
                self.ask("GET", "/version")
                break
            except OSError:
                assert self._process.poll() is None
                signal.sigtimedwait([], 0.05)
        upstream = {"name": "kafka", "listen": f"127.0.0.1:{self.listens}", "upstream": f"127.0.0.1:{port}"}
        self.ask("POST", "/proxies", {**upstream, "enabled": True})

    def cut(self) -> None:
        self.ask("POST", "/proxies/kafka", {"enabled": False})

    def mend(self) -> None:
        self.ask("POST", "/proxies/kafka", {"enabled": True})

    def poison(self, kind: str, **attributes: int) -> None:
        self.ask("POST", "/proxies/kafka/toxics", {"name": kind, "type": kind, "attributes": attributes})

    def cure(self, kind: str) -> None:
        self.ask("DELETE", f"/proxies/kafka/toxics/{kind}")

    def close(self) -> None:
        self._process.kill()
        self._process.wait(10)


@pytest.fixture(scope="module")
def toxiproxy_program() -> Path:
    """Shopify's toxiproxy, built once by Go into the cache."""
    place = Settings().cache_dir / TOXIPROXY.rpartition("@")[2].join(("toxiproxy-", ""))
    program = place / "server"
    if not program.exists():
        if shutil.which("go") is None:
            pytest.skip("toxiproxy is built by Go, and there is none on this machine")
        environment = {**os.environ, "GOBIN": str(place), "GOFLAGS": ""}
        try:
            subprocess.run(["go", "install", TOXIPROXY], env=environment, check=True, capture_output=True, timeout=200)
        except subprocess.SubprocessError as error:
            pytest.skip(f"toxiproxy cannot be built: {getattr(error, 'stderr', error)!r}")
    return program


@pytest.fixture
def toxiproxy(toxiproxy_program: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Toxiproxy]:
    """A toxiproxy that every client of the broker goes through: the broker tells them its address."""
    proxy = Toxiproxy(toxiproxy_program)

    class Behind(kafka.Broker):
        @property
        def bootstrap_servers(self) -> str:
            return f"127.0.0.1:{proxy.listens}"

        def properties(self) -> dict[str, str]:
            return {**super().properties(), "advertised.listeners": f"PLAINTEXT://{self.bootstrap_servers}"}

        def command(self) -> list[str]:
            proxy.stand_before(self.port)
            return super().command()

    monkeypatch.setattr(kafka, "Broker", Behind)
    yield proxy
    proxy.close()


@pytest.mark.timeout(300)
def test_the_network_is_cut_and_slow(rig: Callable[..., Rig], toxiproxy: Toxiproxy) -> None:
    """Delay, a cut longer than the session, connections that are reset, a trickle of bandwidth: late, but exact."""
    it = rig(events=40_000, workers=2)
    it.start_stages()
    thread = it.sending(1.0, 30.0)
    it.pause(3.0)
    toxiproxy.poison("latency", latency=300, jitter=200)
    it.pause(8.0)
    toxiproxy.cure("latency")
    toxiproxy.cut()
    it.pause(9.0)
    toxiproxy.mend()
    it.pause(5.0)
    toxiproxy.poison("reset_peer", timeout=1500)
    it.pause(6.0)
    toxiproxy.cure("reset_peer")
    toxiproxy.poison("bandwidth", rate=100)
    it.pause(5.0)
    toxiproxy.cure("bandwidth")
    it.wait_for(thread)
    it.finish()
