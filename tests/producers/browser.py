"""A page that holds the browser client, and the Chromium that opens it."""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

CLIENT = Path(__file__).parents[2] / "producers" / "browser" / "crossfade.js"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
QUIET += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]

_PAGE = b"""<!doctype html><title>player</title>
<script type="module">
  import { Crossfade } from "/crossfade.js";
  window.open_client = (key, url, more = {}) => {
    const timing = more.ahead_ms ? { now: () => Date.now() + more.ahead_ms } : {};
    window.client = new Crossfade(key, { url, lingerMs: 50, defaults: { platform: "custom" }, timing, ...more });
  };
  window.tell = (name, count) => Array.from({ length: count }, (_, n) => window.client.play(name, `${name}-${n}`));
  window.ready = true;
</script>
"""


@contextlib.contextmanager
def pages() -> Iterator[str]:
    """Serves the page under an origin of its own, which it gives."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Quiet."""

        def do_GET(self) -> None:
            script = self.path == "/crossfade.js"
            body = CLIENT.read_bytes() if script else _PAGE
            self.send_response(200)
            self.send_header("Content-Type", "text/javascript" if script else "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
