"""The vault in memory, and that nobody takes it for a real one."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import tempfile
from importlib.metadata import files
from pathlib import Path

import pytest
import vault_core
import vault_core_testing
from conftest import CONTEXT
from vault_core import Sealer, Vault, errors
from vault_core_testing import TestVault


def test_it_seals_and_finds() -> None:
    vault = TestVault.new({"DB_PASSWORD": "correct horse"})
    assert vault.secret("DB_PASSWORD").expose_text() == "correct horse"
    assert vault.open(CONTEXT, vault.seal(CONTEXT, b"sk-1")) == b"sk-1"
    vault.refresh()
    assert isinstance(vault, Vault)


def test_it_reads_nothing_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_PASSWORD", "of the process")
    monkeypatch.setenv("VAULT_CORE_PROFILE", "staging")
    monkeypatch.setenv("VAULT_CORE_CONFIG", "/nonexistent/vault.toml")
    with pytest.raises(errors.NotFoundError):
        TestVault.new().secret("DB_PASSWORD")


def test_what_it_seals_opens_nowhere_else(sealer: Sealer) -> None:
    token = TestVault.new().seal(CONTEXT, b"sk-1")
    for other in (TestVault.new(), sealer):
        with pytest.raises(errors.UnknownKeyError):
            other.open(CONTEXT, token)


def test_it_is_not_mistaken() -> None:
    assert repr(TestVault.new()) == "<vault_core_testing.TestVault [redacted]>"
    assert not any("testing" in str(path) for path in files("vault-core") or ())
    assert "vault_core_testing" not in dir(vault_core)
    script = "import sys, vault_core; assert not [name for name in sys.modules if 'testing' in name and 'vault' in name]"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_it_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    vault = TestVault.new()
    assert len(os.listdir("/proc/self/fd")) == before
    assert list(tmp_path.iterdir()) == []
    assert vault.open(CONTEXT, vault.seal(CONTEXT, b"sk-1")) == b"sk-1"


def test_the_example_runs() -> None:
    text = vault_core_testing.__doc__ or ""
    example = text.split("::\n", 1)[1]
    exec("\n".join(line.removeprefix("    ") for line in example.splitlines()), {})
