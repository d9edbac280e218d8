"""The page in Chromium: charts are drawn, nothing complains, and nothing leaves this machine."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import duckdb
import pytest

from schemas.settings import Settings
from tests.web.conftest import crowd, make_warehouse, settings_in

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium or google-chrome on this machine")

QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
QUIET += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def serving(settings: Settings) -> Iterator[str]:
    """`python -m web` as it is started by the supervisor; it must end by itself within 3 s of SIGTERM."""
    port = free_port()
    env = {
        **os.environ,
        "CROSSFADE_DATA_DIR": str(settings.data_dir),
        "CROSSFADE_WEB_PORT": str(port),
        "CROSSFADE_SINK_METRICS_PORT": "9",
        "CROSSFADE_QUACK_PORT": "9",
        "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9",
    }
    process = subprocess.Popen([sys.executable, "-m", "web"], env=env, cwd=Path(__file__).parents[2])
    try:
        for _ in range(400):
            assert process.poll() is None
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5):
                break
            time.sleep(0.05)
        yield f"http://localhost:{port}"
        process.send_signal(signal.SIGTERM)
        assert process.wait(3) == 0
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


class Visit:
    """A page with everything that went wrong on it."""

    def __init__(self, browser: Any, url: str, **context: Any) -> None:
        self.context = browser.new_context(**context)
        self.page = self.context.new_page()
        self.wrong: list[str] = []
        self.hosts: set[str] = set()
        self.page.on(
            "console",
            lambda said: (
                self.wrong.append(f"{said.text} {said.location['url']}") if said.type in ("error", "warning") else None
            ),
        )
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("request", lambda request: self.hosts.add(str(urlsplit(request.url).hostname)))
        self.page.goto(url)


def test_every_view_is_drawn_and_quiet(chromium: Any, tmp_path: Path) -> None:
    """All charts of all views show marks; no console message, no foreign host, no sideways scrolling on a phone."""
    settings = settings_in(tmp_path)
    make_warehouse(
        settings, crowd(plays=390, newest=datetime.now(UTC))
    )  # a flat line has no height: it counts as hidden
    with serving(settings) as url:
        for size in ({"width": 1440, "height": 900}, {"width": 390, "height": 844}):
            visit = Visit(chromium, url, viewport=size, color_scheme="dark")
            page = visit.page
            for view in ("behaviour", "mood", "genre", "similar", "business"):
                page.locator(f"#tab-{view}").click()
                panel = page.locator(f"#panel-{view}")
                for chart in panel.locator("[data-chart]").all():
                    marks = chart.locator(
                        "svg .mark-rect path, svg .mark-area path, svg .mark-line path, svg .mark-symbol path"
                    )
                    sync_api.expect(marks.first).to_be_visible(timeout=20_000)
                    sync_api.expect(chart.locator(".note")).to_be_hidden()
            wide = page.evaluate("document.documentElement.scrollWidth")
            assert wide <= size["width"]
            assert visit.wrong == []
            assert visit.hosts == {"localhost"}
            visit.context.close()


def test_the_page_fills_while_one_looks(chromium: Any, tmp_path: Path) -> None:
    """From waiting to charts within 10 s of the first event, and on with every further event, without a reload."""
    settings = settings_in(tmp_path)
    with serving(settings) as url:
        visit = Visit(chromium, url)
        page = visit.page
        sync_api.expect(page.locator("#waiting")).to_be_visible(timeout=20_000)
        sync_api.expect(page.locator("#state")).to_have_text("Waiting for events")
        make_warehouse(settings, crowd(50, newest=datetime.now(UTC)))
        marks = page.locator('[data-chart="behaviour/events_per_minute"] svg .mark-area path')
        sync_api.expect(marks.first).to_be_visible(timeout=10_000)
        page.evaluate("window.stays = document.querySelector('[data-chart] svg')")
        more = crowd(60, newest=datetime.now(UTC))["events"][-10:]
        add(settings, [{**event, "event_id": f"more-{n}"} for n, event in enumerate(more)])
        sync_api.expect(page.locator("#headline .value").first).to_have_text("84", timeout=10_000)
        assert page.evaluate("window.stays.isConnected")
        assert visit.wrong == []
        visit.context.close()


def add(settings: Settings, events: list[dict[str, Any]]) -> None:
    """Loads more events; the page may just be reading the file."""
    for _ in range(200):
        try:
            make_warehouse(settings, {"events": events})
        except duckdb.IOException:
            time.sleep(0.05)
        else:
            return
    raise AssertionError("the file was never free")


def test_buttons_and_keys(chromium: Any, filled: Settings) -> None:
    """Tabs move by arrow keys, a range is chosen, a track is picked, a simulator is started and stopped."""
    with serving(filled) as url:
        visit = Visit(chromium, url)
        page = visit.page
        page.locator("#tab-behaviour").focus()
        for _ in range(3):
            page.keyboard.press("ArrowRight")
        sync_api.expect(page.locator("#tab-similar")).to_have_attribute("aria-selected", "true")
        page.locator("#words").fill("number 59")
        page.locator(".found .track").get_by_text("Song number 59").click()
        sync_api.expect(page.locator(".detail-of-track .similar li")).to_have_count(4)
        page.locator("#range").get_by_text("15 min").click()
        sync_api.expect(page.locator("#stretch")).to_contain_text("11:45")
        spotify = page.locator('[data-scenario="spotify"]')
        spotify.click()
        sync_api.expect(spotify).to_have_attribute("aria-pressed", "true")
        spotify.click()
        sync_api.expect(spotify).to_have_attribute("aria-pressed", "false", timeout=10_000)
        assert visit.wrong == []
        visit.context.close()


def test_a_search_without_an_answer_is_asked_again(chromium: Any, filled: Settings) -> None:
    """Words that the warehouse had no time for are asked again with the next figures, and not forgotten for others."""
    with serving(filled) as url:
        visit = Visit(chromium, url)
        page = visit.page
        page.locator("#tab-similar").click()
        sync_api.expect(page.locator(".found .track").first).to_be_visible()
        page.route("**/api/tracks?words=number+59", lambda route: route.fulfill(status=503, json={}), times=1)
        with page.expect_response("**/api/tracks?words=number+59") as refused:
            page.locator("#words").fill("number 59")
        assert refused.value.status == 503
        page.locator("#range").get_by_text("15 min").click()
        sync_api.expect(page.locator(".found .track").first).to_contain_text("Song number 59")
        visit.context.close()


def test_a_port_in_use_is_one_plain_line(filled: Settings) -> None:
    """What to do is said; no traceback."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        env = {
            **os.environ,
            "CROSSFADE_DATA_DIR": str(filled.data_dir),
            "CROSSFADE_WEB_PORT": str(taken.getsockname()[1]),
        }
        command = [sys.executable, "-m", "web"]
        run = subprocess.run(command, check=False, env=env, capture_output=True, text=True, timeout=30)
    assert run.returncode == 1
    assert "stop what uses the port" in run.stderr
    assert "Traceback" not in run.stderr
