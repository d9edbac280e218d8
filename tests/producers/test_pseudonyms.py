"""Pseudonyms: stable, keyed, and with a secret that is made once."""

from __future__ import annotations

import hashlib
import hmac
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydantic import SecretStr

from producers.identity import Pseudonyms, kept, pseudonyms
from schemas.settings import Settings


def test_a_pseudonym_is_a_keyed_hash() -> None:
    """HMAC-SHA-256 of the user id, hex, 32 characters."""
    expected = hmac.new(b"secret", "ü-1".encode(), hashlib.sha256).hexdigest()[:32]
    assert Pseudonyms(b"secret").of("ü-1") == expected


def test_tenants_cannot_be_matched(tmp_path: Path) -> None:
    """The same user has another pseudonym at another tenant, the same one after a restart."""
    settings = Settings(data_dir=tmp_path)
    first, other, again = (pseudonyms(settings, tenant).of("user") for tenant in ("a", "b", "a"))
    assert first == again != other


def test_a_stated_secret_is_used(tmp_path: Path) -> None:
    """A secret of the settings comes first, and nothing is written."""
    settings = Settings(data_dir=tmp_path, pseudonym_secrets={"a": SecretStr("s")})
    assert pseudonyms(settings, "a").of("u") == Pseudonyms(b"s").of("u")
    assert not (tmp_path / "secrets").exists()


def test_the_secret_file_is_private_and_made_once(tmp_path: Path) -> None:
    """Of several that start at once one wins, everybody reads its secret, and no draft is left."""
    path = tmp_path / "secrets" / "pseudonym-x"
    with ThreadPoolExecutor(16) as pool:
        read = list(pool.map(lambda n: kept(path, lambda: f"secret {n}"), range(64)))
    assert len(set(read)) == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [p.name for p in path.parent.iterdir()] == ["pseudonym-x"]


def test_a_tenant_cannot_leave_the_directory(tmp_path: Path) -> None:
    """A tenant is a name, not a path."""
    with pytest.raises(ValueError, match="tenant"):
        pseudonyms(Settings(data_dir=tmp_path), "../etc")


def test_the_cache_is_bounded() -> None:
    """Remembered pseudonyms do not grow without end."""
    names = Pseudonyms(b"k", remembered=10)
    for n in range(50):
        names.of(str(n))
    assert names.of.cache_info().currsize == 10
