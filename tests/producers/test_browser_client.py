"""The browser client in Node and in Chromium, against real HTTP servers with scripted answers."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.producers.browser import CHROMIUM, CLIENT, QUIET, pages
from tests.producers.scripted_collector import KEY, Collector, Scripted, serving

TESTS = Path(__file__).parent / "crossfade.test.mjs"


@pytest.mark.skipif(shutil.which("node") is None, reason="no node on this machine")
def test_in_node() -> None:
    """Every test of crossfade.test.mjs passes."""
    ended = subprocess.run(["node", "--test", TESTS], capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "# pass 0" not in ended.stdout


@pytest.mark.skipif(
    None in (shutil.which("tsc"), shutil.which("node")),
    reason="no tsc on this machine: npm install --global typescript",
)
def test_types() -> None:
    """TypeScript finds nothing wrong with the JSDoc types, in its strict mode."""
    options = "--allowJs --checkJs --noEmit --strict --noUnusedLocals --target es2022 --module esnext"
    libraries = ["--lib", "es2022,dom,dom.iterable"]
    ended = subprocess.run(
        ["tsc", *options.split(), *libraries, CLIENT], capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stdout


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no chromium or google-chrome on this machine")
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture
def collector() -> Iterator[Collector]:
    with serving() as running:
        yield running


@pytest.fixture
def browser(chromium: Any) -> Iterator[Browser]:
    with pages() as origin:
        context = chromium.new_context()
        yield Browser(context, origin)
        context.close()


class Browser:
    """One user's browser: its tabs share a localStorage."""

    def __init__(self, context: Any, origin: str) -> None:
        self.context, self._origin = context, origin
        self.errors: list[str] = []

    def tab(self, collector: Collector, **more: Any) -> Any:
        """A new tab with a client."""
        page = self.context.new_page()
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.goto(self._origin)
        page.wait_for_function("window.ready")
        page.evaluate("([key, url, more]) => window.open_client(key, url, more)", [KEY, collector.url, more])
        return page


def flush(page: Any) -> bool:
    return bool(page.evaluate("window.client.flush(20000)"))


def told(collector: Collector, name: str) -> list[int]:
    """The numbers of the accepted events of a teller, in their order."""
    return [int(event["track_id"].split("-")[1]) for event in collector.taken if event["user_id"] == name]


def test_a_page_of_another_origin_delivers(browser: Browser, collector: Collector) -> None:
    """Events pass the preflight, arrive compressed and in order, and leave localStorage empty."""
    page = browser.tab(collector)
    ids = page.evaluate("window.tell('ann', 300)")
    assert flush(page)
    assert collector.ids == ids
    assert {request.headers["Content-Encoding"] for request in collector.requests} == {"gzip"}
    assert page.evaluate("localStorage.length") == 0
    assert page.evaluate("window.client.state.accepted") == 300
    assert browser.errors == []


def test_tabs_take_turns(browser: Browser, collector: Collector) -> None:
    """Three tabs share a localStorage while the server fails now and then: one request at a time, each tab in order."""
    collector.script = [Scripted(503), Scripted(202, delay_s=0.2), Scripted(None)]
    tabs = {name: browser.tab(collector) for name in ("ann", "bob", "cleo")}
    for _ in range(3):
        for name, page in tabs.items():
            page.evaluate(f"window.tell('{name}', 40)")
    assert all(flush(page) for page in tabs.values())
    assert collector.in_flight_most == 1
    for name in tabs:
        assert told(collector, name) == list(range(40)) * 3
    assert len(set(collector.ids)) == 360


def test_a_page_that_goes_away_leaves_a_beacon(browser: Browser, collector: Collector) -> None:
    """What still waits when a tab is left arrives at once; the next visit confirms it, and nothing is doubled."""
    page = browser.tab(collector, lingerMs=3_600_000)
    ids = page.evaluate("window.tell('ann', 5)")
    page.goto("about:blank")
    end = time.monotonic() + 10
    while not collector.requests and time.monotonic() < end:
        page.wait_for_timeout(20)
    (request,) = collector.requests
    assert request.path == "/v1/beacon"
    assert request.headers["Content-Type"].startswith("text/plain")
    assert collector.ids == ids
    assert all(event["sent_at"] >= event["timestamp"] for event in collector.taken)
    later = browser.tab(collector, ahead_ms=60_000)
    assert flush(later)
    assert later.evaluate("window.client.state.duplicate") == 5
    assert later.evaluate("localStorage.length") == 0
    assert collector.ids == ids


def test_a_beacon_that_nobody_answered_for_is_forgotten_in_time(browser: Browser, collector: Collector) -> None:
    """After six days it is not sent again, because the warehouse would no longer know the ids; it is counted."""
    page = browser.tab(collector, lingerMs=3_600_000)
    page.evaluate("window.tell('ann', 2)")
    page.goto("about:blank")
    later = browser.tab(collector, ahead_ms=7 * 86_400_000)
    assert flush(later)
    assert later.evaluate("[window.client.state.unconfirmed, localStorage.length]") == [2, 0]
    assert all(request.path == "/v1/beacon" for request in collector.requests)


def test_offline_events_survive_the_tab(browser: Browser, collector: Collector) -> None:
    """What is told without a network, in a tab that is closed then, is sent by the next one, in order."""
    page = browser.tab(collector)
    browser.context.set_offline(True)
    ids = page.evaluate("window.tell('ann', 50)")
    page.wait_for_function("window.client.state.problem")
    with page.expect_event("close"):
        page.close(run_before_unload=True)
    browser.context.set_offline(False)
    later = browser.tab(collector)
    ids += later.evaluate("window.tell('bob', 3)")
    assert flush(later)
    assert collector.ids == ids


def test_a_full_local_storage_is_told_and_survived(browser: Browser, collector: Collector) -> None:
    """When the quota is used up, telling throws nothing, the state says why, and the events arrive from memory."""
    page = browser.tab(collector)
    page.evaluate(
        """() => { for (let size = 1 << 22, n = 0; size >= 1; n += 1) {
             try { localStorage.setItem(`other-${n}`, "x".repeat(size)); } catch { size >>= 1; } } }"""
    )
    ids = page.evaluate("window.tell('ann', 20)")
    assert "quota" in page.evaluate("window.client.state.problem")
    assert flush(page)
    assert collector.ids == ids
    assert browser.errors == []
