"""FingerFlow: `BaseSettings` of its `app/config.py`.

In that file, `from vault_core.applications.fingerflow import BaseSettings` takes the place of
`from pydantic_settings import BaseSettings`. `vault.toml` declares what is a secret; the vault has these
before environment and `.env`, and one that is missing or empty is an error where FingerFlow would
start with a default that is public::

    version = 1
    [vault]
    app = "fingerflow"
    [secrets.SECRET_KEY]
    min_length = 32
    [secrets.POSTGRES_PASSWORD]
    [secrets.DATABASE_URL]
    type = "url"
    composed = "postgresql://fingerflow:{POSTGRES_PASSWORD}@postgres:5432/fingerflow"
    [secrets.SMTP_PASSWORD]
    required = false
    [secrets.GOOGLE_CLIENT_SECRET]
    required = false
"""

from __future__ import annotations

from functools import cache
from typing import ClassVar

import pydantic_settings
from pydantic_settings import PydanticBaseSettingsSource, SettingsConfigDict
from vault_core import Vault
from vault_core.frameworks.pydantic import VaultSettingsSource

__all__ = ["BaseSettings"]


class BaseSettings(pydantic_settings.BaseSettings):
    """Settings of which those in `secrets` come from the vault that VAULT_CORE_CONFIG names."""

    secrets: ClassVar[tuple[str, ...]] = ("secret_key", "database_url", "smtp_password", "google_client_secret")

    model_config = SettingsConfigDict(hide_input_in_errors=True)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[pydantic_settings.BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        vault = VaultSettingsSource(settings_cls, _vault(), [name for name in cls.secrets if name in cls.model_fields])
        return init_settings, vault, env_settings, dotenv_settings, file_secret_settings


@cache
def _vault() -> Vault:
    return Vault.load()
