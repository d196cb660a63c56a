"""A site of one model, with Django's own migrations: run by test_frameworks.py with a directory."""

from __future__ import annotations

import sys
from pathlib import Path

import django
from django.conf import settings
from django.core import serializers
from django.core.exceptions import FieldError
from django.db import connection, models
from django.db.models import Case, F, Value, When
from django.db.models.expressions import RawSQL
from django.db.models.functions import Cast, Concat, Lower
from django.db.migrations.writer import MigrationWriter
from vault_core import Context, MalformedError
from vault_core.frameworks.django import SealedTextField
from vault_core.frameworks.reading import plaintext
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



def refuses(error: type[Exception], call: object) -> None:
    try:
        call()  # type: ignore[operator]
    except error:
        return
    raise AssertionError(f"{error} was not raised")


class Migrating(models.Model):  # type: ignore[misc] # Django has no types
    api_key = SealedTextField(bound_to="account.api_key", null=True, reads=(plaintext,))

    class Meta:
        app_label = "site"
        managed = False
        db_table = "site_account"


def assign(expression: object) -> None:
    account = Account.objects.get(id=3)
    account.api_key = expression
    account.save()


def bulk_update(expression: object) -> None:
    Account.objects.bulk_update([Account(id=3, api_key=expression)], ["api_key"])


# What the database computes is not sealed, and nothing of it is stored.
own = Account._meta.get_field("api_key")
other = SealedTextField(bound_to="another")
for expression in (
    Value("s3cret"),
    Value("s3cret", output_field=models.TextField()),
    Value("s3cret", output_field=other),
    F("id"),
    Lower(Value("S3CRET")),
    Concat(Value("s3"), Value("cret")),
    Case(When(id=3, then=Value("s3cret")), output_field=own),
    Cast(Value("s3cret"), output_field=own),
    Account.objects.filter(id=1).values("id")[:1],
    RawSQL("'s3cret'", ()),
):
    refuses(TypeError, lambda: Account.objects.filter(id=3).update(api_key=expression))
    refuses(TypeError, lambda: Account.objects.create(id=4, api_key=expression))
    refuses(TypeError, lambda: Account.objects.bulk_create([Account(id=4, api_key=expression)]))
    refuses(TypeError, lambda: Account.objects.update_or_create(id=3, defaults={"api_key": expression}))
    refuses(TypeError, lambda: assign(expression))
    if not isinstance(expression, models.QuerySet):
        refuses(TypeError, lambda: bulk_update(expression))
refuses(TypeError, lambda: SealedTextField(bound_to="a", db_default=Value("s3cret")))
assert Account.objects.get(id=3).api_key == "sk-33"

# What is sealed on its way is stored.
Account.objects.filter(id=3).update(api_key=Value("sk-v", output_field=own))
assert Account.objects.get(id=3).api_key == "sk-v"
Account.objects.bulk_update([Account(id=2, api_key=None), Account(id=3, api_key="sk-33")], ["api_key"])
assert [account.api_key for account in Account.objects.order_by("id")] == ["sk-ä", None, "sk-33"]
Account.objects.bulk_create(
    [Account(id=3, api_key="sk-3")], update_conflicts=True, unique_fields=["id"], update_fields=["api_key"]
)
assert Account.objects.get(id=3).api_key == "sk-3"
Account.objects.filter(id=2).update(api_key=Value(None))
with connection.cursor() as cursor:
    cursor.execute("SELECT count(*) FROM site_account WHERE api_key NOT LIKE 'vs1.%'")
    assert cursor.fetchone() == (0,)
    cursor.execute("INSERT INTO site_account VALUES (9, 'not migrated')")
assert [account.api_key for account in Migrating.objects.order_by("id")] == ["sk-ä", None, "sk-3", "not migrated"]
refuses(MalformedError, lambda: Account.objects.get(id=9))
Account.objects.filter(id=3).update(api_key="sk-33")
assert "reads" not in MigrationWriter.serialize(Migrating._meta.get_field("api_key"))[0]

with connection.cursor() as cursor:
    cursor.execute("SELECT api_key FROM site_account WHERE id = 1")
    (token,) = cursor.fetchone()
    assert VAULT.open(Context("user-secret", name="account.api_key"), token) == "sk-ä".encode()
    cursor.execute("UPDATE site_account SET api_key = 'plain' WHERE id = 1")

refuses(MalformedError, lambda: Account.objects.get(id=1))
refuses(FieldError, lambda: Account.objects.filter(api_key="sk-33").exists())
refuses(FieldError, lambda: Account.objects.filter(api_key__startswith="sk").exists())
refuses(TypeError, lambda: serializers.serialize("json", Account.objects.filter(id=3)))

field = Account._meta.get_field("api_key")
written, imports = MigrationWriter.serialize(field.clone())
assert "bound_to='account.api_key'" in written and "vault_core.frameworks.django" in "".join(imports)
print("all passed")
