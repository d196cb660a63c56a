"""Flowfile's own functions: run by test_applications.py with what to do as JSON on standard input.

Also stores a secret through Flowfile's own code with the replacement in the place of its functions.
"""

from __future__ import annotations

import json
import sys

from cryptography.fernet import InvalidToken
from flowfile_core.auth.models import SecretInput
from flowfile_core.auth.secrets import get_docker_secret_key
from flowfile_core.database import models
from flowfile_core.secret_manager import secret_manager
from pydantic import SecretStr
from sqlalchemy import create_engine
from sqlalchemy.orm import Session
from vault_core.applications import flowfile

asked = json.load(sys.stdin)
answer = {
    "key": get_docker_secret_key(),
    "encrypted": [secret_manager.encrypt_secret(value, user) for user, value in asked["secrets"]],
    "legacy": [secret_manager._encrypt_with_master_key(value) for _, value in asked["secrets"]],
    "decrypted": [secret_manager.decrypt_secret(value).get_secret_value() for value in asked["values"]],
}

own_encrypt, own_decrypt = secret_manager.encrypt_secret, secret_manager.decrypt_secret
engine = create_engine("sqlite://")
models.Base.metadata.create_all(engine, tables=[models.User.__table__, models.Secret.__table__])
with Session(engine) as session:
    secret_manager.encrypt_secret = flowfile.encrypt_secret
    theirs = secret_manager.store_secret(session, SecretInput(name="a", value=SecretStr("sk-1")), 2)
    assert own_decrypt(str(theirs.encrypted_value)).get_secret_value() == "sk-1"
    secret_manager.encrypt_secret = own_encrypt
    ours = secret_manager.store_secret(session, SecretInput(name="b", value=SecretStr("sk-2")), 2)
    assert flowfile.decrypt_secret(str(ours.encrypted_value)).get_secret_value() == "sk-2"
    try:
        own_decrypt(str(theirs.encrypted_value).replace("$2$", "$3$"))
        raise AssertionError("another user's key opened it")
    except InvalidToken:
        pass

json.dump(answer, sys.stdout)
