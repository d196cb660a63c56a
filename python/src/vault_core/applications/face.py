"""The face-recognition API: the encryption of `homomorphic_face_encryption.database.encryption_utils`.

`vault.toml` declares where the key text is; the `*_FILE` variable that the application's deployment sets
is read as well::

    version = 1
    [vault]
    app = "face"
    [secrets.DB_ENCRYPTION_KEY]
    [keyring.face]
    kind = "text"
    sources = ["secret:DB_ENCRYPTION_KEY"]

The application's module keeps its other functions: at its end stands
`from vault_core.applications.face import *`, which replaces those of encryption.

With VAULT_CORE_WRITES=vs1, both columns hold tokens under the keyring `main`, and are rotated while the
application runs; what it wrote before is read beside them. The contexts are then
`{ purpose = "column" }` and `{ purpose = "metadata" }`.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from functools import cache
from typing import TYPE_CHECKING, Any

from sqlalchemy.types import LargeBinary, TypeDecorator
from vault_core import Context, MalformedError, Vault
from vault_core.frameworks.sqlalchemy import not_wrapped
from vault_core.text import decoded, encoded

if TYPE_CHECKING:
    from sqlalchemy import Dialect

__all__ = [
    "EncryptedJSONType",
    "Face",
    "PGPEncryptedType",
    "decrypt_column_data",
    "decrypt_json_metadata",
    "encrypt_column_data",
    "encrypt_json_metadata",
    "get_encryption_key",
    "hash_consent_text",
    "verify_consent_hash",
]

_COLUMN = Context("column")
_METADATA = Context("metadata")


class Face:
    """The application's encrypted columns through a vault: `keyring` is the keyring of its key texts.

    `writes` is "legacy", which the application reads, or "vs1". Both are read. The application derives
    its key from each text at first use, which takes some tens of milliseconds.
    """

    def __init__(self, vault: Vault, *, keyring: str = "face", writes: str = "legacy") -> None:
        if writes not in ("legacy", "vs1"):
            raise ValueError('writes is "legacy" or "vs1"')
        self._vault = vault
        self._keyring = keyring
        self._writes = writes

    def get_encryption_key(self) -> str:
        """The key text. Raises NotFoundError where there is none, whatever the environment is called."""
        return self._vault.secret("DB_ENCRYPTION_KEY").expose_text()

    def encrypt_column_data(self, plaintext: str | bytes) -> bytes:
        """What a column holds for a value."""
        secret = encoded(plaintext) if isinstance(plaintext, str) else plaintext
        return self._seal(_COLUMN, "face-column", secret)

    def decrypt_column_data(self, ciphertext: bytes) -> str:
        """The value of what a column holds. Raises CorruptError for another key or damage."""
        if bytes(ciphertext).startswith(b"vs1."):
            return decoded(self._vault.open(_COLUMN, ciphertext))
        return decoded(self._vault.open_legacy(self._keyring, "face-column", ciphertext))

    def encrypt_json_metadata(self, data: dict[str, Any]) -> bytes:
        """What a column holds for an object, in one layer."""
        text = json.dumps(data, ensure_ascii=False, default=str)
        return self._seal(_METADATA, "face-json", encoded(text))

    def decrypt_json_metadata(self, ciphertext: bytes | dict[str, Any]) -> dict[str, Any]:
        """The object of what a column holds, in one layer or, as the application wrote its rows, in two.
        An object is given as it is: the application calls this with what `EncryptedJSONType` gave.

        Raises CorruptError for another key or damage.
        """
        if isinstance(ciphertext, dict):
            return ciphertext
        if bytes(ciphertext).startswith(b"vs1."):
            opened = self._vault.open(_METADATA, ciphertext)
        else:
            try:
                opened = self._vault.open_legacy(self._keyring, "face-json", ciphertext)
            except MalformedError:
                opened = self._vault.open_legacy(self._keyring, "face-json-double", ciphertext)
        found = json.loads(opened)
        if not isinstance(found, dict):
            raise MalformedError("malformed face-json value: it holds no object")
        return found

    def _seal(self, context: Context, legacy: str, secret: bytes) -> bytes:
        if self._writes == "vs1":
            return self._vault.seal(context, secret).encode()
        return self._vault.seal_legacy(self._keyring, legacy, secret).encode()


def hash_consent_text(consent_text: str) -> str:
    """SHA-256 of a text of consent in hex, however its words are spaced."""
    return hashlib.sha256(encoded(" ".join(consent_text.split()))).hexdigest()


def verify_consent_hash(consent_text: str, stored_hash: str) -> bool:
    """Whether a text of consent has this hash."""
    return hmac.compare_digest(hash_consent_text(consent_text).encode(), encoded(stored_hash))


def get_encryption_key() -> str:
    """As `Face.get_encryption_key`, of the vault that VAULT_CORE_CONFIG names."""
    return _default().get_encryption_key()


def encrypt_column_data(plaintext: str | bytes, key: None = None) -> bytes:
    """As `Face.encrypt_column_data`, of the vault that VAULT_CORE_CONFIG names, which has the key."""
    _no_key(key)
    return _default().encrypt_column_data(plaintext)


def decrypt_column_data(ciphertext: bytes, key: None = None) -> str:
    """As `Face.decrypt_column_data`, of the vault that VAULT_CORE_CONFIG names, which has the key."""
    _no_key(key)
    return _default().decrypt_column_data(ciphertext)


def encrypt_json_metadata(data: dict[str, Any], key: None = None) -> bytes:
    """As `Face.encrypt_json_metadata`, of the vault that VAULT_CORE_CONFIG names, which has the key."""
    _no_key(key)
    return _default().encrypt_json_metadata(data)


def decrypt_json_metadata(ciphertext: bytes | dict[str, Any], key: None = None) -> dict[str, Any]:
    """As `Face.decrypt_json_metadata`, of the vault that VAULT_CORE_CONFIG names, which has the key."""
    _no_key(key)
    return _default().decrypt_json_metadata(ciphertext)


class PGPEncryptedType(TypeDecorator[str]):
    """A column of text. Bytes must be what `encrypt_column_data` gave, and are stored as they are; others
    are refused, where the application stored them unencrypted. What does not open raises CorruptError,
    where the application gave a text about it."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> bytes | None:
        with not_wrapped():
            if isinstance(value, bytes):
                decrypt_column_data(value)
                return value
            return None if value is None else encrypt_column_data(value)

    def process_result_value(self, value: bytes | None, dialect: Dialect) -> str | None:
        return None if value is None else decrypt_column_data(value)


class EncryptedJSONType(TypeDecorator[dict[str, Any]]):
    """A column of objects. Bytes must be what `encrypt_json_metadata` gave, and are stored as they are,
    where the application encrypted them again and could not read them. What does not open raises
    CorruptError, where the application gave an object about it."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> bytes | None:
        with not_wrapped():
            if isinstance(value, bytes):
                decrypt_json_metadata(value)
                return value
            return None if value is None else encrypt_json_metadata(value)

    def process_result_value(self, value: bytes | None, dialect: Dialect) -> dict[str, Any] | None:
        return None if value is None else decrypt_json_metadata(value)


def _no_key(key: object) -> None:
    if key is not None:
        raise TypeError("the key is the vault's affair, and not an argument")


@cache
def _default() -> Face:
    return Face(Vault.load(), writes=os.environ.get("VAULT_CORE_WRITES", "legacy"))
