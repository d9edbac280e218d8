"""A table in memory whose changelog can be cut anywhere, as a worker that dies leaves it."""

from __future__ import annotations

import asyncio


class Changelog:
    """What snapshots use of a Faust Table."""

    def __init__(self, records: list[tuple[str, bytes | None]] | None = None) -> None:
        self.log = records or []
        self.data: dict[str, bytes] = {}
        for key, value in self.log:
            self.data.pop(key, None) if value is None else self.data.update({key: value})

    def send_changelog(self, _partition: int, key: str, value: bytes | None) -> asyncio.Future[None]:
        """Confirmed at once."""
        self.log.append((key, value))
        done = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done
