"""Django: a model field whose column holds tokens.

::

    # settings.py: a Vault or Sealer, or a function that gives one when the first value comes
    VAULT_CORE = Vault.load

    # models.py
    class Account(models.Model):
        api_key = SealedTextField(bound_to="account.api_key", null=True)

Every value of such a field has one context, so a token may be moved from row to row. Where the context
needs the row, as its owner, keep a TextField and call `vault.seal` and `vault.open`.

Only values are sealed. An expression, as `F("name")`, `Value("…")` or `Lower("name")`, is computed by the
database, past the field, and would store its result in clear: it is refused. `Value("…", output_field=…)`
of the field itself is a value, and `bulk_update` works.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import models
from django.db.models.functions import Cast
from vault_core import Context, Sealer
from vault_core.frameworks.reading import Reads, read
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
    secrets to a file, and so is every expression as a value.

    While `vault migrate` moves the column to tokens, `reads` are the functions that read what is not
    a token yet: see `vault_core.frameworks.reading`. They are no part of migrations.
    """

    def __init__(
        self, *args: Any, bound_to: str, purpose: str = "user-secret", reads: Reads = (), **options: Any
    ) -> None:
        if options.get("db_default", models.NOT_PROVIDED) is not models.NOT_PROVIDED:
            raise TypeError("a sealed field has no db_default: the database cannot seal it")
        super().__init__(*args, **options)
        self.bound_to = bound_to
        self.purpose = purpose
        self._context = Context(purpose, name=bound_to)
        self._reads = tuple(reads)

    def deconstruct(self) -> tuple[str, str, Any, dict[str, Any]]:
        name, path, args, options = super().deconstruct()
        return name, path, args, {**options, "bound_to": self.bound_to, "purpose": self.purpose}

    def pre_save(self, model_instance: models.Model, add: bool) -> Any:
        """What an instance has: of INSERT, and of every UPDATE of one."""
        value = super().pre_save(model_instance, add)
        self._refuse_expression(value)
        return value

    def get_placeholder(self, value: Any, compiler: object, connection: object) -> str:
        """Where a value goes in an UPDATE, of `QuerySet.update` among others."""
        self._refuse_expression(value)
        return "%s"

    def _refuse_expression(self, value: Any) -> None:
        if hasattr(value, "as_sql") or hasattr(value, "resolve_expression"):
            if not self._is_sealed(value):
                raise TypeError(
                    f"{self.name} takes values and no expressions: the database computes those, and cannot seal"
                )

    def _is_sealed(self, value: Any) -> bool:
        """Whether every value that an expression can give is a parameter of this field, or NULL."""
        kind = type(value)
        if kind is models.Value:
            field = value._output_field_or_none
            same = isinstance(field, SealedTextField) and field._context == self._context
            return value.value is None or (same and not hasattr(value.value, "as_sql"))
        if kind is Cast:
            return all(self._is_sealed(source) for source in value.get_source_expressions())
        if kind is models.Case:
            return all(self._is_sealed(result) for result in [*(case.result for case in value.cases), value.default])
        return False

    def get_prep_value(self, value: Any) -> Any:
        text = super().get_prep_value(value)
        return None if text is None else _sealer().seal(self._context, encoded(text))

    def from_db_value(self, value: str | None, expression: object, connection: object) -> str | None:
        return None if value is None else decoded(read(_sealer(), self._context, self._reads, value))

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
