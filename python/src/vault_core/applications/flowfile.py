"""Flowfile: `flowfile_core.auth.secrets` and `flowfile_core.secret_manager.secret_manager`.

`vault.toml` declares where Flowfile's master key is, as Flowfile itself looks for it::

    version = 1
    [vault]
    app = "flowfile"
    preset = "flowfile-core"
    [secrets.FLOWFILE_MASTER_KEY]
    type = "fernet-key"
    [keyring.flowfile]
    kind = "text"
    sources = ["secret:FLOWFILE_MASTER_KEY"]

Core, worker and notifications that all use it agree on the key, however it is quoted or ends.

`SecureStorage` is the store of the desktop application, which has its key beside it and needs no
`vault.toml`.
"""

from __future__ import annotations

import json
import os
import tempfile
from functools import cache
from operator import index
from pathlib import Path
from typing import TYPE_CHECKING

from vault_core import Context, Error, LegacyKey, KeyMissingError, MalformedError, NotFoundError, Vault
from vault_core.text import decoded, encoded

if TYPE_CHECKING:
    from pydantic import SecretStr

__all__ = [
    "Flowfile",
    "SecureStorage",
    "decrypt_secret",
    "encrypt_secret",
    "get_docker_secret_key",
    "get_master_key",
    "is_master_key_configured",
]


class Flowfile:
    """Flowfile's secrets through a vault: `keyring` is the keyring of its master keys.

    `writes` is "flowfile-v1", which every Flowfile reads, or "vs1" where every process that reads the
    values uses this class: such tokens are bound to the user, and can be rotated while the
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
        """The value to store for a user's secret."""
        if self._writes == "vs1":
            return self._vault.seal(_context(user_id), encoded(secret_value))
        return self._vault.seal_legacy(self._keyring, "flowfile-v1", encoded(secret_value), tenant=_decimal(user_id))

    def decrypt_secret(self, encrypted_value: str, user_id: int | None = None) -> SecretStr:
        """The secret of a stored value.

        As in Flowfile, the user in a value counts, and `user_id` only for values without one: a bare
        Fernet token is under the user's key with it, and under the master key without.

        Raises CorruptError where Flowfile raises InvalidToken, and MalformedError for spellings that
        Flowfile reads by chance and never writes.
        """
        from pydantic import SecretStr

        return SecretStr(decoded(self._open(encrypted_value, user_id)))

    def _open(self, value: str, user_id: int | None) -> bytes:
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


def _context(user_id: int) -> Context:
    return Context("user-secret", tenant=_decimal(user_id))


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
    return Flowfile(Vault.load())
