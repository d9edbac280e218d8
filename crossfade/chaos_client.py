"""A client of the collector that gives nothing up: it sends every request again until it is accepted."""

from __future__ import annotations

import http.client
import itertools
import json
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from schemas.settings import Settings

_BATCH = 200
_AGAIN_S = 0.3
_TIMEOUT_S = 10.0
_GIVEN_UP_S = 180.0


class PatientClient(threading.Thread):
    """Sends files of JSON lines to the collector, at most `rate` lines a second, in their order.

    A request that is not answered with 202 (no connection, 429, 503) is sent again with the same request id, as a good
    client does. `sent` counts lines that are acknowledged; `problem` says why it gave up, if it did.
    """

    def __init__(self, settings: Settings, files: Sequence[Path], rate: float, clock: Callable[[], float]) -> None:
        super().__init__(daemon=True, name="client")
        self.sent = 0
        self.repeated = 0
        self.problem = ""
        self._settings, self._files, self._rate, self._clock = settings, files, rate, clock
        self._key = settings.dev_api_key_file.read_text().strip()
        self._connection: http.client.HTTPConnection | None = None
        self._stopped = threading.Event()

    def run(self) -> None:
        """Sends everything."""
        began = self._clock()
        for file in self._files:
            with file.open("rb") as lines:
                for number in itertools.count():
                    batch = list(itertools.islice(lines, _BATCH))
                    if not batch:
                        break
                    early_s = self.sent / self._rate - (self._clock() - began)
                    if early_s > 0:
                        self._stopped.wait(early_s)
                    if self._stopped.is_set() or not self._deliver(batch, f"{file.name}-{number}"):
                        return
                    self.sent += len(batch)

    def stop(self) -> None:
        """Sends no more."""
        self._stopped.set()

    def _deliver(self, batch: Iterable[bytes], request_id: str) -> bool:
        body, end = b"".join(batch), self._clock() + _GIVEN_UP_S
        while True:
            try:
                status, said = self._post(body, request_id)
            except (OSError, http.client.HTTPException) as error:
                self._connection, status, said = None, 0, repr(error)
            if status == 202:
                return True
            if status not in (0, 429, 503) or self._clock() > end:
                self.problem = f"the collector answered {status} to {request_id}: {said}"
                return False
            self.repeated += 1
            if self._stopped.wait(_AGAIN_S):
                return False

    def _post(self, body: bytes, request_id: str) -> tuple[int, str]:
        if self._connection is None:
            self._connection = http.client.HTTPConnection(
                "127.0.0.1", self._settings.collector_port, timeout=_TIMEOUT_S
            )
        headers = {
            "Authorization": f"Bearer {self._key}",
            "Content-Type": "application/x-ndjson",
            "X-Request-Id": request_id,
        }
        self._connection.request("POST", "/v1/events", body, headers)
        answer = self._connection.getresponse()
        said = answer.read().decode(errors="replace")
        if answer.status == 202:
            json.loads(said)  # the whole answer has arrived
        return answer.status, said[:300]
