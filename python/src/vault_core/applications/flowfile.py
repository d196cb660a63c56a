"""Flowfile: its functions for secrets in core, worker, scheduler and notifications, and a launcher.

The published Flowfile is started, with none of its files changed, by ::

    python -m vault_core.applications.flowfile core
    python -m vault_core.applications.flowfile worker

The functions of `flowfile_core.secret_manager.secret_manager`, `flowfile_worker.secrets` and
`shared.notifications.crypto` are then those of this module before anything imports them, with the same
arguments and types, also in the processes that Flowfile starts. Made for Flowfile 0.23.3; a release in
which they are not where they are looked for is refused.

`vault.toml` declares where Flowfile's master key is, as Flowfile itself looks for it; and for tokens a
`[keyring.main]`::

    version = 1
    [vault]
    app = "flowfile"
    preset = "flowfile-core"
    [secrets.FLOWFILE_MASTER_KEY]
    type = "fernet-key"
    [keyring.flowfile]
    kind = "text"
    sources = ["secret:FLOWFILE_MASTER_KEY"]

Flowfile handles a secret as one text that names its user, which core gives to the worker, and to whom it
is shared with. A token is handled as `$ffsec$vs1$USER$TOKEN`. The database has the token alone: there the
row has the user, to whom the token is bound, and `vault rotate` finds it.

Core, worker and notifications that all use it agree on the key, however it is quoted or ends.

`SecureStorage` is the store of the desktop application, which has its key beside it and needs no
`vault.toml`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from functools import cache
from importlib.machinery import PathFinder
from operator import index
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from vault_core import Context, Error, LegacyKey, KeyMissingError, MalformedError, NotFoundError, Vault
from vault_core.text import decoded, encoded

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

    from pydantic import SecretStr

__all__ = [
    "Flowfile",
    "SecureStorage",
    "decrypt_secret",
    "encrypt_secret",
    "get_docker_secret_key",
    "get_master_key",
    "install",
    "is_master_key_configured",
]

_WRITES = "VAULT_CORE_WRITES"
_WRAPPED = "$ffsec$vs1$"


class Flowfile:
    """Flowfile's secrets through a vault: `keyring` is the keyring of its master keys.

    `writes` is "flowfile-v1", which every Flowfile reads, or "vs1" where the launcher starts every
    process that reads the values: such tokens are bound to the user, and can be rotated while the
    application runs. Both are read.
    """

    def __init__(self, vault: Vault, *, keyring: str = "flowfile", writes: str = "flowfile-v1") -> None:
        if writes not in ("flowfile-v1", "vs1"):
            raise ValueError('writes is "flowfile-v1" or "vs1"')
        self._vault = vault
        self._keyring = keyring
        self._writes = writes

    def get_docker_secret_key(self) -> str | None:
        """The text of the master key; None where none is configured. Raises RuntimeError where one is and
        cannot be read or is no key."""
        try:
            return self._vault.secret("FLOWFILE_MASTER_KEY").expose_text()
        except NotFoundError:
            return None
        except Error as error:
            raise RuntimeError(str(error)) from error

    def encrypt_secret(self, secret_value: str, user_id: int) -> str:
        """The value of a user's secret."""
        if self._writes == "vs1":
            return wrap(self._vault.seal(_context(user_id), encoded(secret_value)), user_id)
        return self._vault.seal_legacy(self._keyring, "flowfile-v1", encoded(secret_value), tenant=_decimal(user_id))

    def decrypt_secret(self, encrypted_value: str, user_id: int | None = None) -> SecretStr:
        """The secret of a value.

        As in Flowfile, the user in a value counts, and `user_id` only for values without one: a bare
        Fernet token is under the user's key with it, and under the master key without.

        Raises CorruptError where Flowfile raises InvalidToken, ContextMismatchError for a token of
        another user, and MalformedError for spellings that Flowfile reads by chance and never writes.
        """
        from pydantic import SecretStr

        return SecretStr(decoded(self._open(encrypted_value, user_id)))

    def _encrypt_for_any(self, secret_value: str, user_id: int | None) -> str:
        """As Flowfile's worker and notifications, which write under the master key for nobody."""
        if user_id is not None:
            return self.encrypt_secret(secret_value, user_id)
        return self._vault.seal_legacy(self._keyring, "flowfile-legacy-master", encoded(secret_value))

    def _open(self, value: str, user_id: int | None) -> bytes:
        if value.startswith(_WRAPPED):
            owner, token = unwrap(value)
            return self._vault.open(_context(owner), token)
        if value.startswith("vs1."):
            if user_id is None:
                raise ValueError("a token needs the user_id that it is bound to")
            return self._vault.open(_context(user_id), value)
        if value.startswith("$ffsec$"):
            return self._vault.open_legacy(self._keyring, "flowfile-v1", value)
        if user_id is not None:
            tenant = _decimal(user_id)
            return self._vault.open_legacy(self._keyring, "flowfile-legacy-user", value, tenant=tenant)
        return self._vault.open_legacy(self._keyring, "flowfile-legacy-master", value)


def wrap(token: str, user_id: int) -> str:
    """A token as Flowfile handles it, which names its user."""
    return f"{_WRAPPED}{_decimal(user_id)}${token}"


def unwrap(value: str) -> tuple[int | None, str]:
    """The user and the token of such a text. Raises MalformedError for any other."""
    owner, _, token = value.removeprefix(_WRAPPED).partition("$")
    canonical = owner == "" or (owner.isascii() and owner.isdigit() and str(int(owner)) == owner)
    if not (value.startswith(_WRAPPED) and canonical and token.startswith("vs1.")):
        raise MalformedError("malformed flowfile token: it names no user")
    return (int(owner) if owner else None), token


class SecureStorage:
    """The stores of Flowfile outside of Docker: in a directory, `flowfile.json.enc` and others like it,
    under the key text in `.secret_key`.

    `path` is the directory: FLOWFILE_SECURE_STORAGE_PATH, or `flowfile` in APPDATA or `~/.config`, unless
    it is given. Where Flowfile makes a new key, and takes a store that does not decrypt for an empty one
    and replaces it, this raises IoError, KeyMalformedError, CorruptError or MalformedError, and nothing
    is written. Flowfile itself must not write meanwhile.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self.storage_path = Path(path) if path is not None else _desktop()
        self.key_path = self.storage_path / ".secret_key"

    def get_password(self, service_name: str, username: str) -> str | None:
        """What a store has under a name, or None."""
        return self._read(service_name).get(username)

    def set_password(self, service_name: str, username: str, password: str) -> None:
        """Puts a text into a store, which is made where it is not there."""
        store = self._read(service_name)
        store[username] = password
        self._write(service_name, store)

    def delete_password(self, service_name: str, username: str) -> None:
        """Removes a name from a store."""
        store = self._read(service_name)
        if store.pop(username, None) is not None:
            self._write(service_name, store)

    def _key(self) -> LegacyKey:
        return LegacyKey.from_key_file(self.key_path, "flowfile-store")

    def _store(self, service_name: str) -> Path:
        if service_name != Path(service_name).name:
            raise ValueError("the name of a service is the name of a file")
        return self.storage_path / f"{service_name}.json.enc"

    def _read(self, service_name: str) -> dict[str, str]:
        key = self._key()
        try:
            value = self._store(service_name).read_bytes()
        except FileNotFoundError:
            return {}
        store = _parsed(key.open("flowfile-store", value))
        if not isinstance(store, dict):
            raise MalformedError("malformed flowfile-store value: it holds no object")
        return store

    def _write(self, service_name: str, store: dict[str, str]) -> None:
        value = self._key().seal("flowfile-store", json.dumps(store).encode())
        # Readable by the owner alone, as mkstemp makes it.
        descriptor, name = tempfile.mkstemp(dir=self.storage_path, prefix=f".{service_name}.", suffix=".tmp")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(value.encode())
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, self._store(service_name))
        except BaseException:
            os.unlink(name)
            raise


def get_docker_secret_key() -> str | None:
    """As `Flowfile.get_docker_secret_key`, of the vault that VAULT_CORE_CONFIG names."""
    try:
        return _default().get_docker_secret_key()
    except KeyMissingError:
        return None
    except Error as error:
        raise RuntimeError(str(error)) from error


def get_master_key() -> str:
    """The same where one is needed: RuntimeError where none is configured, and never a new key."""
    key = get_docker_secret_key()
    if key is None:
        raise RuntimeError("Master key not configured: FLOWFILE_MASTER_KEY is nowhere where vault.toml looks for it")
    return key


def is_master_key_configured() -> bool:
    """Whether there is a master key, and it is one."""
    try:
        return get_docker_secret_key() is not None
    except RuntimeError:
        return False


def encrypt_secret(secret_value: str, user_id: int) -> str:
    """As `Flowfile.encrypt_secret`, of the vault that VAULT_CORE_CONFIG names."""
    return _default().encrypt_secret(secret_value, user_id)


def decrypt_secret(encrypted_value: str, user_id: int | None = None) -> SecretStr:
    """As `Flowfile.decrypt_secret`, of the vault that VAULT_CORE_CONFIG names."""
    return _default().decrypt_secret(encrypted_value, user_id)


def _decimal(user_id: int) -> str:
    """No other number is rounded to a user's, and no text read as one."""
    return str(int(index(user_id)))


def _context(user_id: int | None) -> Context:
    return Context("user-secret") if user_id is None else Context("user-secret", tenant=_decimal(user_id))


def _desktop() -> Path:
    override = os.environ.get("FLOWFILE_SECURE_STORAGE_PATH")
    return Path(override) if override else Path(os.environ.get("APPDATA") or os.path.expanduser("~/.config"), "flowfile")


def _parsed(store: bytes) -> object:
    try:
        return json.loads(store)
    except ValueError:
        # It would hold the store.
        pass
    raise MalformedError("malformed flowfile-store value: it is not JSON")


@cache
def _default() -> Flowfile:
    return Flowfile(Vault.load(), writes=os.environ.get(_WRITES, "flowfile-v1"))


def install() -> None:
    """Has the modules of Flowfile that are imported from now on use this module.

    Raises RuntimeError where one was imported before.
    """
    if any(isinstance(finder, _Finder) for finder in sys.meta_path):
        return
    if early := [name for name in _CHANGES if name in sys.modules]:
        raise RuntimeError(f"{early[0]} was imported before the vault could take its place: use the launcher")
    sys.meta_path.insert(0, _Finder())


class _Finder:
    """Finds the modules of Flowfile that are changed, and changes each before anybody has its names."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        change = _CHANGES.get(name)
        spec = PathFinder.find_spec(name, path, target) if change else None
        if change is None or spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            change(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _change_keys(module: ModuleType) -> None:
    _replace(module, get_docker_secret_key=get_docker_secret_key)


def _change_core(module: ModuleType) -> None:
    _replace(module, encrypt_secret=encrypt_secret, decrypt_secret=decrypt_secret)


def _change_worker(module: ModuleType) -> None:
    _change_keys(module)
    _replace(module, encrypt_secret=_encrypt_for_any, decrypt_secret=_decrypt_named)


def _change_notifications(module: ModuleType) -> None:
    _replace(
        module, _docker_master_key=get_docker_secret_key, encrypt_secret=_encrypt_for_any, decrypt_secret=_decrypt_text
    )


def _change_core_models(module: ModuleType) -> None:
    _store_tokens(module, "Secret", "encrypted_value", "user_id")
    _change_shared_models(module)


def _change_shared_models(module: ModuleType) -> None:
    _store_tokens(module, "NotificationChannel", "webhook_url_encrypted", "owner_id")


_CHANGES: dict[str, Callable[[ModuleType], None]] = {
    "flowfile_core.auth.secrets": _change_keys,
    "flowfile_core.secret_manager.secret_manager": _change_core,
    "flowfile_core.database.models": _change_core_models,
    "flowfile_worker.secrets": _change_worker,
    "shared.notifications.crypto": _change_notifications,
    "shared.models": _change_shared_models,
}


def _encrypt_for_any(secret_value: str, user_id: int | None = None) -> str:
    return _default()._encrypt_for_any(secret_value, user_id)


def _decrypt_named(encrypted_value: str) -> SecretStr:
    return decrypt_secret(encrypted_value)


def _decrypt_text(encrypted: str) -> str:
    return decoded(_default()._open(encrypted, None))


def _replace(module: ModuleType, **functions: Callable[..., object]) -> None:
    for name, function in functions.items():
        if not callable(getattr(module, name, None)):
            raise _unknown_release(f"{module.__name__}.{name}")
        setattr(module, name, function)


def _store_tokens(module: ModuleType, model: str, column: str, owner: str) -> None:
    """Has a column of Flowfile's hold tokens, and give them with the user of their row."""
    from sqlalchemy import String, Text, TypeDecorator, case, cast, event, func, type_coerce

    class Stored(TypeDecorator[str]):
        impl = Text
        cache_ok = True

        def process_bind_param(self, value: str | None, dialect: object) -> str | None:
            return unwrap(value)[1] if value is not None and value.startswith(_WRAPPED) else value

        def column_expression(self, column: Any) -> Any:
            text = type_coerce(column, Text)
            of = func.coalesce(cast(column.table.c[owner], String), "")
            return case((text.like("vs1.%"), type_coerce(_WRAPPED, Text) + of + "$" + text), else_=text)

    def check(mapper: object, connection: object, row: Any) -> None:
        value = getattr(row, column)
        if value is not None and value.startswith(_WRAPPED) and unwrap(value)[0] != getattr(row, owner):
            secret = decrypt_secret(value).get_secret_value()
            setattr(row, column, encrypt_secret(secret, getattr(row, owner)))

    mapped = getattr(module, model, None)
    if mapped is None or not {column, owner} <= set(mapped.__table__.c.keys()):
        raise _unknown_release(f"{module.__name__}.{model}")
    mapped.__table__.c[column].type = Stored()
    for moment in ("before_insert", "before_update"):
        event.listen(mapped, moment, check)


def _unknown_release(what: str) -> RuntimeError:
    return RuntimeError(f"this release of Flowfile has no {what}: the launcher is made for 0.23.3")


_PROGRAMS = {"core": "flowfile_core.main", "worker": "flowfile_worker", "scheduler": "flowfile_scheduler"}


def _launch() -> NoReturn:
    parser = argparse.ArgumentParser(prog=f"{Path(sys.executable).name} -m vault_core.applications.flowfile")
    parser.add_argument("program", choices=_PROGRAMS)
    parser.add_argument("--writes", choices=("vs1", "flowfile-v1"), default="vs1", help="the format of new values")
    given, others = parser.parse_known_args()
    # What cannot be read is said here, and not at the first use.
    Vault.load()
    os.environ[_WRITES] = given.writes
    # Python imports the `sitecustomize` that is there in every process.
    places = [str(Path(__file__).with_name("start")), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(places)
    os.execv(sys.executable, [sys.executable, "-m", _PROGRAMS[given.program], *others])


if __name__ == "__main__":
    _launch()
