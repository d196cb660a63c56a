"""pydantic-settings: a source of settings that are secrets.

::

    class Settings(BaseSettings):
        model_config = SettingsConfigDict(hide_input_in_errors=True)
        database_url: SecretStr
        workers: int = 4

        @classmethod
        def settings_customise_sources(cls, settings_cls, init_settings, env_settings, **others):
            return init_settings, VaultSettingsSource(settings_cls, Vault.load(), ["database_url"]), env_settings

Without `hide_input_in_errors`, pydantic's own errors show the values that it refuses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import AliasChoices
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pydantic.fields import FieldInfo
    from vault_core import Vault

__all__ = ["VaultSettingsSource"]


class VaultSettingsSource(PydanticBaseSettingsSource):
    """Finds some fields' values in a vault, as text.

    `secrets` are names of fields, each found under its name in upper case; or a mapping of fields to
    names of secrets. A secret that is not found is an error, which `vault_core` raises, unless
    `vault.toml` declares it as not required: such a field is left to the sources that follow.
    """

    def __init__(
        self, settings_cls: type[BaseSettings], vault: Vault, secrets: Iterable[str] | Mapping[str, str]
    ) -> None:
        super().__init__(settings_cls)
        self._vault = vault
        self._secrets = dict(secrets.items()) if hasattr(secrets, "items") else {name: name.upper() for name in secrets}
        if unknown := self._secrets.keys() - settings_cls.model_fields.keys():
            raise TypeError(f"{settings_cls.__name__} has no field {', '.join(sorted(unknown))}")

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        secret = self._vault.optional_secret(self._secrets[field_name])
        return None if secret is None else secret.expose_text(), _key(field, field_name), False

    def __call__(self) -> dict[str, Any]:
        fields = self.settings_cls.model_fields
        found = (self.get_field_value(fields[name], name) for name in self._secrets)
        return {key: value for value, key, _ in found if value is not None}

    def __repr__(self) -> str:
        return f"VaultSettingsSource({sorted(self._secrets)})"


def _key(field: FieldInfo, field_name: str) -> str:
    """By which name pydantic takes the field: under another, a source that follows would win."""
    alias = field.validation_alias
    if alias is None:
        return field_name
    for choice in alias.choices if isinstance(alias, AliasChoices) else [alias]:
        if isinstance(choice, str):
            return choice
    raise TypeError(f"the field {field_name} has no alias that is a name")
