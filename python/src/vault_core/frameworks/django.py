"""Django: a model field whose column holds tokens.

::

    # settings.py: a Vault or Sealer, or a function that gives one when the first value comes
    VAULT_CORE = Vault.load

    # models.py
    class Account(models.Model):
        api_key = SealedTextField(bound_to="account.api_key", null=True)

Every value of such a field has one context, so a token may be moved from row to row. Where the context
needs the row, as its owner, keep a TextField and call `vault.seal` and `vault.open`.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import models
from vault_core import Context, Sealer
from vault_core.text import decoded, encoded

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["SealedTextField"]


class SealedTextField(models.TextField):  # type: ignore[misc] # Django has no types
    """Text that is sealed on its way into the database and opened on its way out.

    The context is `purpose`, and `bound_to` as its name: choose it once, because a token opens for an
    equal context only, whatever table and column are called later. NULL stays NULL. What does not
    open raises an exception of `vault_core`, and is never given as it is. Looking up is refused,
    except by `isnull`: equal secrets have different tokens. So is `dumpdata`, which would write
    secrets to a file.
    """

    def __init__(self, *args: Any, bound_to: str, purpose: str = "user-secret", **options: Any) -> None:
        super().__init__(*args, **options)
        self.bound_to = bound_to
        self.purpose = purpose
        self._context = Context(purpose, name=bound_to)

    def deconstruct(self) -> tuple[str, str, Any, dict[str, Any]]:
        name, path, args, options = super().deconstruct()
        return name, path, args, {**options, "bound_to": self.bound_to, "purpose": self.purpose}

    def get_prep_value(self, value: Any) -> Any:
        text = super().get_prep_value(value)
        return None if text is None else _sealer().seal(self._context, encoded(text))

    def from_db_value(self, value: str | None, expression: object, connection: object) -> str | None:
        return None if value is None else decoded(_sealer().open(self._context, value))

    def get_lookup(self, lookup_name: str) -> Any:
        return super().get_lookup(lookup_name) if lookup_name == "isnull" else None

    def value_to_string(self, obj: models.Model) -> str:
        raise TypeError(f"the field {self.name} is not serialized: it holds secrets")


def _sealer() -> Sealer:
    configured = getattr(settings, "VAULT_CORE", None)
    if isinstance(configured, Sealer):
        return configured
    if configured is None:
        raise ImproperlyConfigured("VAULT_CORE is not set: it is a Vault, or a function that gives one")
    return _made(configured)


@cache
def _made(make: Callable[[], Sealer]) -> Sealer:
    return make()
