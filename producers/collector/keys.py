"""Who may send: API keys, known by their SHA-256 only, each belonging to a tenant."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import structlog

from producers.identity import kept
from schemas.settings import Settings

_LOOK_AGAIN_S = 1.0

log = structlog.get_logger()


class Client(msgspec.Struct, frozen=True):
    """Who a key belongs to."""

    tenant: str
    name: str = ""


@dataclass(frozen=True)
class _Version:
    development: tuple[int, int]
    listed: tuple[int, int]


class Keys:
    """The development key of this installation, and the keys of `api-keys.json` ({sha256: {"tenant", "name"}}).

    Both files are looked at again when they change, at most once a second.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings, self._clock = settings, clock
        self._listed_file = settings.data_dir / "api-keys.json"
        self._known: dict[bytes, Client] = {}
        self._version: _Version | None = None
        self._looked_s = float("-inf")

    def client(self, authorization: str) -> Client | None:
        """Who sends `Bearer KEY`; None for anybody else. Takes the same time for every key."""
        self._refresh()
        scheme, _, key = authorization.partition(" ")
        presented = hashlib.sha256(key.strip().encode("utf-8", "replace")).hexdigest().encode()
        found = None
        for digest, client in self._known.items():
            if hmac.compare_digest(digest, presented):
                found = client
        return found if scheme.lower() == "bearer" else None

    def _refresh(self) -> None:
        if self._clock() - self._looked_s < _LOOK_AGAIN_S:
            return
        self._looked_s = self._clock()
        file = self._settings.dev_api_key_file
        version = _Version(_stamp(file), _stamp(self._listed_file))
        if version == self._version and version.development != (0, 0):
            return
        development = kept(file, lambda: f"cf_dev_{secrets.token_urlsafe(24)}\n")
        digest = hashlib.sha256(development.encode()).hexdigest().encode()
        self._known = {digest: Client(self._settings.tenant, "development"), **self._listed()}
        self._version = _Version(_stamp(file), version.listed)

    def _listed(self) -> dict[bytes, Client]:
        """Keys of the file; while it cannot be read, none of them counts."""
        try:
            found = msgspec.json.decode(self._listed_file.read_bytes(), type=dict[str, Client])
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            log.error("api-keys.json cannot be used: its keys are refused", file=str(self._listed_file), why=str(error))
            return {}
        return {digest.lower().encode(): client for digest, client in found.items()}


def _stamp(path: Path) -> tuple[int, int]:
    try:
        state = path.stat()
    except OSError:
        return 0, 0
    return state.st_mtime_ns, state.st_ino
