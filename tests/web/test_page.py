"""The page and its API in front of a real DuckDB file."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from schemas.settings import Settings
from tests.web.conftest import NEWEST, crowd, make_warehouse, settings_in
from warehouse.runner import reader
from web.app import create_app
from web.guard import refusal
from web.live import ledger_state
from web.scenarios import Scenarios


def client_of(settings: Settings) -> TestClient:
    """A visitor at http://localhost."""
    app = create_app(settings, reader(settings), Scenarios(settings), lambda: NEWEST + timedelta(seconds=5))
    return TestClient(app, base_url="http://localhost:8000")


@pytest.fixture
def client(filled: Settings) -> Iterator[TestClient]:
    with client_of(filled) as found:
        yield found


def test_the_headline_tells_known_numbers(client: TestClient) -> None:
    """590 events of 40 listeners, 134 skips over 400 plays, one alert open, four dead letters, ledger in balance."""
    live = client.get("/api/live?range=all").json()
    assert live["state"] == "live"
    headline = live["headline"]
    assert headline["events"] == 400 + 134 + 40 + 16
    assert (headline["plays"], headline["listeners"], headline["open_alerts"]) == (400, 40, 1)
    assert headline["skip_rate"] == pytest.approx(134 / 400)
    assert headline["dead_letters"] == 4
    assert headline["events_per_s"] > 0
    assert live["ledger"]["state"] == "balanced"
    assert live["ledger"]["origin"] == "warehouse"
    (hour,) = live["ledger"]["hours"]
    assert (hour["accepted"], hour["dead_lettered"], hour["deduplicated"], hour["in_flight"]) == (590 + 6, 4, 2, 0)


def test_alerts_and_dead_letters_come_with_reasons(client: TestClient) -> None:
    """The open alert is on top with its runbook; reasons are counted."""
    live = client.get("/api/live").json()
    alerts = live["alerts"]["rows"]
    assert [alert["status"] for alert in alerts] == ["raised", "resolved"]
    assert alerts[0]["runbook"] == "ops/runbooks/volume.md"
    reasons = {row["reason"]: row["letters"] for row in live["dead_letter_reasons"]["rows"]}
    assert reasons == {"bad_timestamp": 3, "not_json": 1}
    assert len(live["dead_letters"]["rows"]) == 4


@pytest.mark.parametrize("view", ["behaviour", "mood", "genre", "similar", "business"])
def test_rows_are_sent_once(view: str, client: TestClient) -> None:
    """A page that holds the newest version of a chart is not sent its rows again."""
    charts = client.get(f"/api/live?view={view}&range=all").json()["charts"]
    assert charts
    assert all(chart["rows"] for chart in charts.values())
    have = ",".join(chart["version"] for chart in charts.values())
    again = client.get(f"/api/live?view={view}&range=all&have={have}").json()["charts"]
    assert all("rows" not in chart for chart in again.values())


def test_a_range_ends_with_the_newest_event(client: TestClient) -> None:
    """The last 15 minutes hold 15/40 of the plays."""
    live = client.get("/api/live?range=15m").json()
    assert live["range"]["until"] == NEWEST.isoformat().replace("+00:00", "Z")
    assert live["headline"]["plays"] == pytest.approx(150, abs=3)
    assert client.get("/api/live?range=yesterday").status_code == 422


def test_a_chart_in_every_format(client: TestClient) -> None:
    """JSON and CSV for programs, SVG and PNG for people, SQL for analysts."""
    base = "/api/charts/genre/genre_mix"
    assert client.get(f"{base}.json?range=all").json()["columns"] == ["genre", "plays", "tracks"]
    assert client.get(f"{base}.csv?range=all").text.splitlines()[0] == "genre,plays,tracks"
    assert client.get(f"{base}.svg?theme=dark").headers["content-type"] == "image/svg+xml"
    assert client.get(f"{base}.png").content.startswith(b"\x89PNG")
    assert "SELECT" in client.get(f"{base}.sql").text
    assert client.get("/api/charts/genre/nothing.json").status_code == 404
    assert client.get("/api/charts/genre/../app.json").status_code == 404
    assert {view["name"] for view in client.get("/api/charts").json()["views"]} >= {"mood", "genre"}


def test_similar_tracks_have_names(client: TestClient) -> None:
    """A track is found by words, and its similar tracks come in their order."""
    found = client.get("/api/tracks", params={"words": "nUmber 59"}).json()
    assert [row["track_id"] for row in found] == ["t59"]
    about = client.get("/api/similar", params={"track_id": "t59"}).json()
    assert about["track"]["track_name"] == "Song number 59"
    assert [row["track_name"] for row in about["similar"]] == [f"Song number {n}" for n in (0, 1, 2, 4)]
    assert client.get("/api/similar", params={"track_id": "x' OR 1=1 --"}).status_code == 404
    most = client.get("/api/live?view=similar&range=all").json()["most_played"]["rows"]
    assert most[0]["similar_names"]


def test_every_answer_has_strict_headers(client: TestClient) -> None:
    """Scripts and styles come from here only, for errors as well."""
    for path in ("/", "/static/app.js", "/static/vega.js", "/api/live", "/nothing", "/runbooks"):
        answer = client.get(path)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'self'; script-src 'self'; style-src 'self';" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_page_names_no_other_host(client: TestClient) -> None:
    """Neither markup nor our scripts and styles point anywhere else."""
    for name in ("", "static/app.js", "static/charts.js", "static/panels.js", "static/similar.js", "static/app.css"):
        text = client.get(f"/{name}").text
        assert "http://" not in text
        assert "https://" not in text
        assert "style=" not in text


def test_vega_is_served_once(client: TestClient) -> None:
    """A browser that has the script is told so."""
    first = client.get("/static/vega.js")
    assert "vegaEmbed" in first.text
    again = client.get("/static/vega.js", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_health_and_metrics(client: TestClient) -> None:
    """A monitor may ask by any name; numbers are in the one list of metrics."""
    assert client.get("/healthz", headers={"host": "web:8000"}).json() == {"ok": True, "stage": "web"}
    assert client.get("/readyz").status_code == 200
    client.get("/api/live")
    assert 'crossfade_http_requests_total{path="/api/live",stage="web",status="200"}' in client.get("/metrics").text


def test_a_foreign_name_for_this_machine_is_refused(client: TestClient) -> None:
    """A page whose name was bound to 127.0.0.1 reads nothing."""
    assert client.get("/api/live", headers={"host": "evil.example:8000"}).status_code == 421


def test_without_a_warehouse_the_page_waits(tmp_path: Path) -> None:
    """A friendly state, not an error; the page itself is well and not ready."""
    with client_of(settings_in(tmp_path)) as client:
        live = client.get("/api/live").json()
        assert (live["state"], live["range"]) == ("waiting", None)
        assert "There is no warehouse" in live["message"]
        assert client.get("/healthz").status_code == 200
        assert client.get("/readyz").status_code == 503
        assert client.get("/api/charts/mood/mood_mix.json").status_code == 503
        assert client.get("/api/tracks").json()["detail"].startswith("There is no warehouse")


def test_without_events_the_page_waits(empty: Settings) -> None:
    """Tables without rows are no error either."""
    with client_of(empty) as client:
        live = client.get("/api/live?view=similar").json()
        assert live["state"] == "waiting"
        assert live["headline"]["events"] == 0
        assert all(chart["error"] is None and chart["rows"] == [] for chart in live["charts"].values())


def test_while_the_warehouse_is_away_the_last_data_stays(tmp_path: Path) -> None:
    """The sink restarts: the page says so and keeps what it has."""
    settings = settings_in(tmp_path)
    make_warehouse(settings, crowd(50))
    with client_of(settings) as client:
        before = client.get("/api/live?range=all").json()
        settings.duckdb_file.rename(tmp_path / "away")
        client.app.state.live.answers._clock = lambda: 1e9  # type: ignore[attr-defined]
        after = client.get("/api/live?range=all").json()
        assert after["state"] == "reconnecting"
        assert after["headline"]["plays"] == before["headline"]["plays"] == 50
        assert after["charts"] == before["charts"]


def test_the_ledger_comes_from_the_sink_while_it_runs(filled: Settings) -> None:
    """The sink knows what is in flight, also while it waits; what is missing is called an imbalance."""
    told: dict[str, Any] = {"accepted": 10, "loaded": 6, "dead_lettered": 1, "deduplicated": 1, "in_flight": 2}
    waiting = {"for": ""}

    class Sink(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(503 if waiting["for"] else 200)
            self.end_headers()
            self.wfile.write(json.dumps({"ledger": told, "waiting_for": waiting["for"] or None}).encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Sink)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with client_of(filled.model_copy(update={"sink_metrics_port": server.server_port})) as client:
            ledger = client.get("/api/live").json()["ledger"]
            assert (ledger["state"], ledger["in_flight"], ledger["origin"]) == ("in flight", 2, "sink")
            told["accepted"], told["in_flight"], waiting["for"] = 110, 102, "warehouse: the disk is full"
            ledger = client.get("/api/live").json()["ledger"]
            assert (ledger["state"], ledger["in_flight"], ledger["waiting_for"]) == ("in flight", 102, waiting["for"])
            told["loaded"] = 5
            ledger = client.get("/api/live").json()["ledger"]
            assert (ledger["state"], ledger["difference"]) == ("imbalance", 1)
    finally:
        server.shutdown()
        server.server_close()


def test_the_ledger_of_the_warehouse_alone() -> None:
    """What was read but has no dead letter yet is in flight; more out than in is an imbalance."""
    row = {"accepted": 5, "loaded": 3, "dead_lettered": 1, "deduplicated": 0}
    assert ledger_state(None, [row])["state"] == "in flight"
    assert ledger_state(None, [{**row, "loaded": 5}])["state"] == "imbalance"
    assert ledger_state(None, [])["state"] == "balanced"


def test_scenarios_are_started_by_our_own_page_only(client: TestClient) -> None:
    """No header, a foreign origin, a foreign site or a foreign name: nothing is started."""
    own = {"x-crossfade": "page", "origin": "http://localhost:8000", "sec-fetch-site": "same-origin"}
    for headers in (
        {},
        {**own, "x-crossfade": ""},
        {**own, "origin": "http://evil.example"},
        {**own, "origin": "http://localhost:9999"},
        {**own, "origin": "null"},
        {**own, "sec-fetch-site": "cross-site"},
    ):
        assert client.post("/api/scenarios/spotify/start", headers=headers).status_code == 403, headers
    assert client.post("/api/scenarios/spotify/start", headers={**own, "host": "evil.example"}).status_code == 421
    assert client.post("/api/scenarios/napster/start", headers=own).status_code == 404
    assert client.post("/api/scenarios/spotify/dance", headers=own).status_code == 422
    assert client.get("/api/scenarios/spotify/start").status_code == 405
    assert {one["state"] for one in client.get("/api/scenarios").json()} == {"stopped"}


def test_scenarios_are_refused_by_name_even_where_the_page_is_public() -> None:
    """A page that is bound to the network can be read from there, but its simulators cannot be started."""
    own = {"x-crossfade": "page", "origin": "http://music.example", "host": "music.example"}
    assert refusal(own) is not None
    assert refusal({**own, "host": "localhost:8000", "origin": "http://localhost:8000"}) is None


def test_runbooks_are_pages(client: TestClient) -> None:
    """Where an alert points there is something to read, and nothing but runbooks."""
    assert "<h1>" in client.get("/runbooks/volume").text
    assert "/runbooks/volume" in client.get("/runbooks").text
    assert client.get("/runbooks/..%2F..%2FREADME").status_code == 404
    assert client.get("/runbooks/nothing").status_code == 404


def test_clock_of_the_page_is_utc() -> None:
    """Without a clock given, the page takes the real one."""
    settings = settings_in(Path("/nonexistent"))
    with TestClient(create_app(settings, reader(settings), Scenarios(settings)), base_url="http://localhost") as client:
        told = datetime.fromisoformat(client.get("/api/live").json()["now"])
        assert abs(told - datetime.now(UTC)) < timedelta(seconds=10)
