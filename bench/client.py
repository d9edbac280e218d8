"""The Python client: what a call costs its caller, and how many events a second it delivers.

`python -m bench.client [--events N]`. The server, in a process of its own, answers each event and does nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import multiprocessing
import re
import statistics
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

from bench import results
from producers.client import Crossfade

_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


async def _serve(ready: Connection) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not reader.at_eof():
            try:
                length = _LENGTH.search(await reader.readuntil(b"\r\n\r\n"))
            except asyncio.IncompleteReadError:
                break
            assert length is not None
            lines = gzip.decompress(await reader.readexactly(int(length[1]))).split(b"\n")
            results = [{"event_id": json.loads(line)["event_id"], "status": "accepted"} for line in lines]
            body = json.dumps({"results": results}).encode()
            writer.write(b"HTTP/1.1 202 Accepted\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    ready.send(server.sockets[0].getsockname()[1])
    await server.serve_forever()


def _run(ready: Connection) -> None:
    asyncio.run(_serve(ready))


def measure(url: str, events: int, rate_per_s: float) -> list[str]:
    """Tells events at this rate (0: one after the other): what the calls cost, and how fast all was delivered."""
    calls_s = []
    with (
        tempfile.TemporaryDirectory() as folder,
        Crossfade("key", url, store=Path(folder) / "queue", defaults={"platform": "custom"}) as client,
    ):
        began_s = time.perf_counter()
        for n in range(events):
            call_s = time.perf_counter()
            client.play("ann", f"t-{n}", track_name="Slow Blues", artist_name="Miles Quartet", duration_ms=241_000)
            calls_s.append(time.perf_counter() - call_s)
            if rate_per_s:
                time.sleep(1 / rate_per_s)
        assert client.flush(120), client.state.problem
        delivered_per_s = events / (time.perf_counter() - began_s)
        assert client.state.accepted == events
    p50, p99 = statistics.median(calls_s), statistics.quantiles(calls_s, n=100)[98]
    told = f"{rate_per_s:,.0f} a second" if rate_per_s else "at once"
    return [f"{events:,} events, told {told}", f"{p50 * 1e6:.0f}", f"{p99 * 1e6:.0f}", f"{delivered_per_s:,.0f}"]


def main() -> None:
    """Measures, writes the section and prints it."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--events", type=int, default=50_000)
    events = options.parse_args().events
    ready, told = multiprocessing.get_context("spawn").Pipe()
    server = multiprocessing.get_context("spawn").Process(target=_run, args=(told,), daemon=True)
    server.start()
    try:
        url = f"http://127.0.0.1:{ready.recv()}"
        rows = [measure(url, min(events, 5_000), 1_000), measure(url, events, 0)]
    finally:
        server.terminate()
        server.join()
    table = results.table(["", "call p50 us", "call p99 us", "delivered events/s"], rows)
    text = f"`python -m bench.client --events {events}`: {results.machine()}.\n\n{table}"
    results.write("Python client", text)
    print(text)


if __name__ == "__main__":
    main()
