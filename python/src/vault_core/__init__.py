"""A secrets vault that an application links.

It seals users' secrets before they reach the application's own database, and finds deployment
secrets by name::

    from vault_core import Context, Vault

    vault = Vault.load("vault.toml")
    url = vault.secret("DATABASE_URL").expose_text()

    context = Context("user-secret", tenant="42", name="prod_db")
    token = vault.seal(context, b"correct horse")
    assert vault.open(context, token) == b"correct horse"

`Sealer.from_key_file` seals and opens without a configuration. Everything that fails raises a
subclass of `Error`, one for each kind.

Objects may be shared between threads, and used after `fork()`: a parent and its children never seal
under one data key. Where there is a store in a database, fork while no other thread is inside a
call. Calls on small values hold the GIL; those on
large immutable ones, and batches of such, release it.

What `open` and `expose_secret` give are objects of Python, which does not wipe memory. What the
library keeps, it wipes.
"""

from . import errors
from ._native import Secret, version as __version__
from .errors import *  # noqa: F403
from .vault import Context, Following, LegacyKey, Inspection, Sealer, Vault, inspect

__all__ = [
    "Context",
    "LegacyKey",
    "Following",
    "Inspection",
    "Sealer",
    "Secret",
    "Vault",
    "__version__",
    "inspect",
    *errors.__all__,
]
