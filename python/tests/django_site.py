"""A site of one model, with Django's own migrations: run by test_frameworks.py with a directory."""

from __future__ import annotations

import sys
from pathlib import Path

import django
from django.conf import settings
from django.core import serializers
from django.core.exceptions import FieldError
from django.db import connection, models
from django.db.migrations.writer import MigrationWriter
from vault_core import Context, MalformedError
from vault_core.frameworks.django import SealedTextField
from vault_core_testing import TestVault

VAULT = TestVault.new()

settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": str(Path(sys.argv[1], "site.db"))}},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    VAULT_CORE=lambda: VAULT,
)
django.setup()


class Account(models.Model):  # type: ignore[misc] # Django has no types
    api_key = SealedTextField(bound_to="account.api_key", null=True)

    class Meta:
        app_label = "site"


with connection.schema_editor() as editor:
    editor.create_model(Account)

Account.objects.create(id=1, api_key="sk-ä")
Account.objects.bulk_create([Account(id=2), Account(id=3, api_key="sk-3")])
Account.objects.filter(id=3).update(api_key="sk-33")
assert [account.api_key for account in Account.objects.order_by("id")] == ["sk-ä", None, "sk-33"]
assert Account.objects.get(api_key__isnull=True).id == 2

with connection.cursor() as cursor:
    cursor.execute("SELECT api_key FROM site_account WHERE id = 1")
    (token,) = cursor.fetchone()
    assert VAULT.open(Context("user-secret", name="account.api_key"), token) == "sk-ä".encode()
    cursor.execute("UPDATE site_account SET api_key = 'plain' WHERE id = 1")


def refuses(error: type[Exception], call: object) -> None:
    try:
        call()  # type: ignore[operator]
    except error:
        return
    raise AssertionError(f"{error} was not raised")


refuses(MalformedError, lambda: Account.objects.get(id=1))
refuses(FieldError, lambda: Account.objects.filter(api_key="sk-33").exists())
refuses(FieldError, lambda: Account.objects.filter(api_key__startswith="sk").exists())
refuses(TypeError, lambda: serializers.serialize("json", Account.objects.filter(id=3)))

field = Account._meta.get_field("api_key")
written, imports = MigrationWriter.serialize(field.clone())
assert "bound_to='account.api_key'" in written and "vault_core.frameworks.django" in "".join(imports)
print("all passed")
