"""What a person is told when the pipeline is ready: the page, and a command that sends an event."""

from __future__ import annotations

import os
import shlex
import sys
import threading
import webbrowser

from crossfade.board import Board
from crossfade.sources import Options
from schemas.settings import Settings


def page_address(settings: Settings) -> str:
    """The page, as a person opens it."""
    host = settings.web_host if settings.web_host not in ("127.0.0.1", "0.0.0.0", "") else "localhost"  # noqa: S104
    return f"http://{host}:{settings.web_port}"


def curl_line(settings: Settings) -> str:
    """A command that sends one event to the collector; it takes the key from its file, so that no screen shows it."""
    event = (
        '{"event_id": "try-\'$(date +%s)\'", "event_type": "play", "user_id": "me", "track_id": "my-first-track", '
        '"timestamp": "\'$(date -u +%Y-%m-%dT%H:%M:%SZ)\'", "platform": "custom", "location": null}'
    )
    host = "localhost" if settings.collector_host in ("127.0.0.1", "0.0.0.0", "") else settings.collector_host  # noqa: S104
    key = f'"Authorization: Bearer $(cat {shlex.quote(str(settings.dev_api_key_file))})"'
    return (
        f"curl -s http://{host}:{settings.collector_port}/v1/events -H {key} "
        f"-H 'Content-Type: application/json' -d '{event}'"
    )


def greet(settings: Settings, options: Options, board: Board) -> None:
    """Tells both, and opens the page where there is a display and somebody who looks."""
    page = page_address(settings)
    board.say(f"page: {page}")
    board.say(f"send an event of your own: {curl_line(settings)}")
    display = sys.platform == "darwin" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if options.browser and not options.until_drained and display and sys.stdout.isatty():
        threading.Thread(target=webbrowser.open, args=(page,), daemon=True).start()
