"""A vault in memory, for the tests of programs that use vault_core.

Its key is made when it is and gone when it is, so that nothing that it sealed can be opened by
anything else, ever. It reads no variable and no file of others. A package of its own keeps it out of
what is delivered::

    from vault_core import Context
    from vault_core_testing import TestVault

    vault = TestVault.new({"DB_PASSWORD": "correct horse"})
    assert vault.secret("DB_PASSWORD").expose_text() == "correct horse"

    context = Context("user-secret", tenant="42")
    assert vault.open(context, vault.seal(context, b"sk-1")) == b"sk-1"
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from vault_core import Vault

__all__ = ["TestVault"]


class TestVault(Vault):
    """A vault in memory: one fresh key, and the secrets that it is given."""

    __slots__ = ()
    # Not a test, whatever pytest thinks of its name.
    __test__ = False

    @classmethod
    def new(cls, secrets: Mapping[str, str] | None = None) -> Self:
        """A vault with these secrets by name, as if variables of their names were set."""
        with tempfile.TemporaryDirectory(prefix="vault_core_testing.") as directory:
            Path(directory, "key").write_text(os.urandom(32).hex())
            manifest = Path(directory, "vault.toml")
            # With a profile of its own, that of the process is not asked for.
            manifest.write_text('version = 1\n[keyring.main]\nsources = ["file:key"]\n[profiles.testing]\n')
            return cls.load(manifest, profile="testing", variables=secrets or {}, mounts=directory)

    def refresh(self) -> None:
        """Nothing: its key never changes."""
