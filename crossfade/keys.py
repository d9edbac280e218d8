"""API keys of client apps, as an administrator makes, sees and revokes them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Literal, cast

from crossfade.problem import ProblemError
from producers.collector.keyring import Client, Keyring, KeyringError
from schemas.settings import Settings

COLUMNS = ("id", "name", "tenant", "scope", "events_per_s", "created", "ends_with")
SCOPES = ("write", "test")


def create(settings: Settings, name: str, tenant: str, scope: str, rate: int | None) -> dict[str, Any]:
    """A new key with what is known of it; it is told here only. Raises ProblemError."""
    if scope not in SCOPES:
        raise ProblemError(f"There is no scope {scope}: it is {' or '.join(SCOPES)}.")
    created = datetime.now(UTC).isoformat(timespec="seconds")
    named = tenant or settings.tenant
    try:
        key, client = Keyring(settings).create(name, named, cast(Literal["write", "test"], scope), rate, created)
    except KeyringError as error:
        raise ProblemError(f"No key was made: {error}") from None
    return {"key": key, **_row(client, settings)}


def known(settings: Settings) -> Iterator[dict[str, Any]]:
    """One row per key, the oldest first; raises ProblemError."""
    try:
        clients = Keyring(settings).clients().values()
    except KeyringError as error:
        raise ProblemError(str(error)) from None
    yield from (_row(client, settings) for client in clients)


def revoke(settings: Settings, key_id: str) -> dict[str, Any]:
    """What was known of a key that counts no longer, within a second; raises ProblemError."""
    try:
        return _row(Keyring(settings).revoke(key_id), settings)
    except KeyringError as error:
        raise ProblemError(f"Nothing was revoked: {error}.") from None


def _row(client: Client, settings: Settings) -> dict[str, Any]:
    rate = client.rate_per_s or settings.collector_rate_per_s
    row = {name: getattr(client, name, None) for name in COLUMNS}
    return {**row, "events_per_s": rate}
