from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from vault_core import Context, Sealer, Vault

CONTEXT = Context("user-secret", tenant="42", name="prod_db")


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "kek_1"
    path.write_text(os.urandom(32).hex())
    return path


@pytest.fixture
def sealer(key_file: Path) -> Sealer:
    return Sealer.from_key_file(key_file)


@pytest.fixture
def manifest(key_file: Path) -> Path:
    path = key_file.with_name("vault.toml")
    path.write_text('version = 1\n[keyring.main]\nsources = ["file:kek_1"]\n[secrets.OPTIONAL]\nrequired = false\n')
    return path


@pytest.fixture
def load(manifest: Path) -> Callable[..., Vault]:
    """Loads a vault of these variables."""
    return lambda **variables: Vault.load(manifest, variables=variables, mounts=manifest.parent / "mounts")
