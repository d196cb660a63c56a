"""Every Python snippet of the documents is run as it stands there."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
import vault_core
from vault_core.applications import face, fingerflow, flowfile

PROJECT = Path(__file__).resolve().parents[2]


def blocks(document: str, language: str, heading: str | None = None) -> list[str]:
    text = PROJECT.joinpath(document).read_text()
    if heading is not None:
        text = text.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def run(code: str, names: dict[str, Any]) -> None:
    exec(compile(code, "<snippet>", "exec", dont_inherit=True), names)


def test_readme(key_file: Path) -> None:
    (block,) = blocks("README.md", "python")
    assert "/run/secrets/vault_kek" in block
    run(block.replace("/run/secrets/vault_kek", str(key_file)), {})


def test_integration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snippets = blocks("docs/INTEGRATION.md", "python")
    assert len(snippets) >= 8
    tmp_path.joinpath("keys").mkdir()
    tmp_path.joinpath("keys/vault_kek_1").write_text(os.urandom(32).hex())
    tmp_path.joinpath("vault.toml").write_text(blocks("docs/INTEGRATION.md", "toml", "Python")[0])
    monkeypatch.setenv("DATABASE_URL", "postgresql://user:password@host/app")
    monkeypatch.setenv("SESSION_KEY", os.urandom(32).hex())
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "snippets"}
    for snippet in snippets:
        run(snippet, names)


def test_the_package_says_how_it_is_used(key_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    example = (vault_core.__doc__ or "").split("::\n", 1)[1].split("\n`Sealer", 1)[0]
    key_file.with_name("vault.toml").write_text('version = 1\n[keyring.main]\nsources = ["file:kek_1"]\n')
    monkeypatch.setenv("DATABASE_URL", "postgresql://host")
    monkeypatch.chdir(key_file.parent)
    run("\n".join(line.removeprefix("    ") for line in example.splitlines()), {})


def test_everything_public_is_documented() -> None:
    for module in (vault_core, vault_core.errors, flowfile, fingerflow, face):
        for name in module.__all__:
            public = getattr(module, name)
            assert isinstance(public, str) or public.__doc__, name
            for member, value in vars(public).items() if isinstance(public, type) else ():
                if not member.startswith("_") and callable(value) and not member.startswith(("process_", "model_")):
                    assert getattr(public, member).__doc__, f"{name}.{member}"
