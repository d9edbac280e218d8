"""Who may send: API keys, known by their SHA-256 only, each belonging to a tenant."""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from producers.collector.keyring import Client, Clients, Keyring, KeyringError, digest_of
from producers.identity import kept
from schemas.settings import Settings

_LOOK_AGAIN_S = 1.0
_Stamp = tuple[int, int]
_MISSING: _Stamp = (0, 0)

log = structlog.get_logger()


class Keys:
    """The development key of this installation, and the keys of its keyring.

    Both files are looked at again when they change, at most once a second. While the keyring cannot be read, none of
    its keys counts, and `problem` says why.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings, self._clock, self._keyring = settings, clock, Keyring(settings)
        self._known: list[tuple[bytes, Client]] = []
        self._version = (_MISSING, _MISSING)
        self._looked_s = float("-inf")
        self.problem = ""

    def bearer(self, authorization: str) -> Client | None:
        """Who sends `Bearer KEY`; None for anybody else."""
        scheme, _, key = authorization.partition(" ")
        return self.client(key.strip()) if scheme.lower() == "bearer" else None

    def client(self, key: str) -> Client | None:
        """Whose key this is; None for nobody's. Takes the same time for every key."""
        self.refresh()
        presented = digest_of(key).encode()
        found = None
        for digest, client in self._known:
            if hmac.compare_digest(digest, presented):
                found = client
        return found

    def refresh(self) -> None:
        """Looks at the files when it is time; the first time makes the development key. Raises OSError."""
        if self._clock() - self._looked_s < _LOOK_AGAIN_S:
            return
        self._looked_s = self._clock()
        file = self._settings.dev_api_key_file
        version = (_stamp(file), _stamp(self._keyring.file))
        if version == self._version and version[0] != _MISSING:
            return
        development = kept(file, lambda: f"cf_dev_{secrets.token_urlsafe(24)}\n")
        known = {digest_of(development): Client(self._settings.tenant, "development", "dev"), **self._listed()}
        self._known = [(digest.encode(), client) for digest, client in known.items()]
        self._version = (_stamp(file), version[1])

    def _listed(self) -> Clients:
        try:
            listed, self.problem = self._keyring.clients(), ""
        except KeyringError as error:
            listed, self.problem = {}, str(error)
            log.error("the keys of api-keys.json are refused", why=self.problem)
        return listed


def _stamp(path: Path) -> _Stamp:
    try:
        state = path.stat()
    except OSError:
        return _MISSING
    return state.st_mtime_ns, state.st_ino
