"""The file of API keys, `api-keys.json`: keys are made, listed and revoked here, and known by their SHA-256 only."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from producers.identity import TENANT_PATTERN
from schemas.settings import Settings

Scope = Literal["write", "test"]


class Client(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who a key belongs to, and what it may do.

    `test`: events are judged and answered, and go nowhere. `rate_per_s`: events a second; null: as the settings say.
    """

    tenant: Annotated[str, msgspec.Meta(pattern=TENANT_PATTERN)]
    name: str = ""
    id: str = ""
    scope: Scope = "write"
    created: str = ""
    ends_with: str = ""
    rate_per_s: Annotated[int, msgspec.Meta(ge=1)] | None = None


Clients = dict[str, Client]
"""By the SHA-256 of the key, lower-case hex."""


class KeyringError(ValueError):
    """The file of keys cannot be used; the message says why."""


class Keyring:
    """The keys of an installation. A change is one replacement of the file, and counts within a second."""

    def __init__(self, settings: Settings) -> None:
        self.file = settings.data_dir / "api-keys.json"

    def clients(self) -> Clients:
        """Every key that counts; raises KeyringError."""
        try:
            found = msgspec.json.decode(self.file.read_bytes(), type=Clients)
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise KeyringError(f"{self.file} cannot be used: {error}") from None
        return {digest.lower(): _with_id(digest.lower(), client) for digest, client in found.items()}

    def create(self, name: str, tenant: str, scope: Scope, rate_per_s: int | None, created: str) -> tuple[str, Client]:
        """(a new key, which is told here and nowhere else, and what is kept of it). Raises KeyringError."""
        if not re.match(TENANT_PATTERN, tenant):
            raise KeyringError(f"tenant {tenant!a}: a name is letters, digits, dots, dashes and underscores")
        key = f"cf_{scope}_{secrets.token_urlsafe(32)}"
        client = Client(tenant, name, _id(digest_of(key)), scope, created, key[-4:], rate_per_s)
        with self._changing() as clients:
            clients[digest_of(key)] = client
        return key, client

    def revoke(self, key_id: str) -> Client:
        """What was known of a key that counts no longer; raises KeyringError when there is none of this id."""
        with self._changing() as clients:
            found = [digest for digest, client in clients.items() if client.id == key_id]
            if not found:
                raise KeyringError(f"there is no key {key_id}: `crossfade keys list` shows them")
            return clients.pop(found[0])

    @contextmanager
    def _changing(self) -> Iterator[Clients]:
        """The keys, written when the block ends well; two changes at once come one after the other."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with _locked(self.file.with_suffix(".lock")):
            clients = self.clients()
            yield clients
            draft = self.file.with_suffix(".draft")
            draft.unlink(missing_ok=True)
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(msgspec.json.format(msgspec.json.encode(clients)) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self.file)


def digest_of(key: str) -> str:
    """What is kept of a key. A fast hash will do: a key is 256 random bits, which nobody can guess at any speed."""
    return hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()


def _id(digest: str) -> str:
    return digest[:8]


def _with_id(digest: str, client: Client) -> Client:
    return client if client.id else msgspec.structs.replace(client, id=_id(digest))


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
