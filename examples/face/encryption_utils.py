"""The application's own module, as far as it is used here, with the last line that changes it."""

import base64
import json
import os
from functools import cache

from cryptography.fernet import Fernet
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC
from sqlalchemy.types import LargeBinary, TypeDecorator


@cache
def _fernet():
    derived = PBKDF2HMAC(hashes.SHA256(), 32, b"homomorphic_face_salt", 100_000).derive(os.environ["DB_ENCRYPTION_KEY"].encode())
    return Fernet(base64.urlsafe_b64encode(derived))


def encrypt_json_metadata(data):
    return _fernet().encrypt(json.dumps(data, ensure_ascii=False, default=str).encode())


def decrypt_json_metadata(ciphertext):
    return json.loads(_fernet().decrypt(ciphertext))


class PGPEncryptedType(TypeDecorator):
    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value, dialect):
        return value if value is None else _fernet().encrypt(value.encode())

    def process_result_value(self, value, dialect):
        try:
            return value if value is None else _fernet().decrypt(value).decode()
        except Exception:
            return f"<encrypted:{len(value)} bytes>"


class EncryptedJSONType(TypeDecorator):
    """Encrypts what is encrypted already."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value, dialect):
        return value if value is None else _fernet().encrypt(json.dumps(str(value)).encode())

    def process_result_value(self, value, dialect):
        return value


def setup_pgcrypto(connection):
    """One of those that the package does not replace."""


if os.environ.get("FACE") != "before":
    from vault_core.applications.face import *
