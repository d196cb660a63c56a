"""Flask: its configuration from a vault.

::

    app = Flask(__name__)
    configure(app, Vault.load(), ["DATABASE_URL"], secret_key="SESSION_KEY", fallbacks=1)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from flask import Flask
    from vault_core import Vault

__all__ = ["configure"]


def configure(
    app: Flask,
    vault: Vault,
    secrets: Iterable[str] | Mapping[str, str] = (),
    *,
    secret_key: str | None = None,
    fallbacks: int = 0,
) -> None:
    """Sets `app.config`, with text.

    `secrets` are names, or a mapping of names in the configuration to names of secrets. `secret_key`
    names the secret that becomes SECRET_KEY; at most `fallbacks` versions before it, from the store,
    become SECRET_KEY_FALLBACKS, so that sessions that they signed stay valid.

    Raises as `Vault.secret`, and ConfigError for `fallbacks` without a store. Then nothing is set.
    """
    names = dict(secrets.items()) if hasattr(secrets, "items") else {name: name for name in secrets}
    found: dict[str, object] = {key: vault.secret(name).expose_text() for key, name in names.items()}
    if secret_key is not None:
        current = vault.secret(secret_key)
        found["SECRET_KEY"] = current.expose_text()
        if fallbacks > 0:
            older = [number for number, _ in vault.versions(secret_key) if number < (current.version or 0)]
            found["SECRET_KEY_FALLBACKS"] = [
                vault.secret(f"{secret_key}@{number}").expose_text() for number in older[:fallbacks]
            ]
    app.config.update(found)
