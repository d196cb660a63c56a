"""Replacements for applications' own functions, against those, their vectors, or their cryptography."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC
from pydantic_settings import SettingsConfigDict
from sqlalchemy import create_engine, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from vault_core import (
    ContextMismatchError,
    CorruptError,
    Error,
    IoError,
    KeyMalformedError,
    KeyMissingError,
    MalformedError,
    NotFoundError,
    Vault,
)
from vault_core.applications import face, fingerflow, flowfile

VECTORS = Path(__file__).resolve().parents[2] / "tests/vectors/apps"
SECRETS = [(user, value) for user in (1, 2, 70) for value in ("", "sk-1", "p@ss w0rd/with:chars", "пароль-🔐", "abc ", "x" * 5000)]

Configure = Callable[..., Path]


def vectors(name: str) -> Any:
    return json.loads(VECTORS.joinpath(f"{name}.json").read_text())


def declared(module: ModuleType) -> str:
    """The vault.toml of a module's documentation, key by key as it is there."""
    lines = (module.__doc__ or "").split("::\n\n    version = 1\n", 1)[1].splitlines()
    return "\n".join(["version = 1", *(line.removeprefix("    ") for line in lines if line.startswith("    "))])


@pytest.fixture
def configure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Configure]:
    """Puts a module's own vault.toml and these variables where the module looks."""

    def put(module: ModuleType, **variables: str) -> Path:
        tmp_path.joinpath("vault.toml").write_text(declared(module))
        monkeypatch.setenv("VAULT_CORE_CONFIG", str(tmp_path / "vault.toml"))
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        forget()
        return tmp_path

    def forget() -> None:
        flowfile._default.cache_clear()
        fingerflow._vault.cache_clear()
        face._default.cache_clear()

    for name in ("FLOWFILE_MASTER_KEY", "SECRET_KEY", "POSTGRES_PASSWORD", "SMTP_PASSWORD", "DB_ENCRYPTION_KEY"):
        monkeypatch.delenv(name, raising=False)
    yield put
    forget()


def test_flowfile_reads_and_is_read(configure: Configure) -> None:
    key = Fernet.generate_key().decode()
    # As its own setup page shows it, in quotes, and as a file ends.
    directory = configure(flowfile, FLOWFILE_MASTER_KEY=f'"{key}"\n')
    values = [flowfile.encrypt_secret(value, user) for user, value in SECRETS]
    assert all(value.startswith(f"$ffsec$1${user}$") for value, (user, _) in zip(values, SECRETS, strict=True))
    storage = {name: str(directory / name) for name in ("FLOWFILE_STORAGE_DIR", "FLOWFILE_USER_DATA_DIR", "SECURE_STORAGE_PATH")}
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("flowfile_oracle.py")],
        input=json.dumps({"secrets": SECRETS, "values": values}),
        env={
            **os.environ,
            **storage,
            "FLOWFILE_MODE": "docker",
            "FLOWFILE_SKIP_INIT_DB": "1",
            "FLOWFILE_INTERNAL_TOKEN": "internal",
            "JWT_SECRET_KEY": "jwt",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    theirs = json.loads(done.stdout.splitlines()[-1])
    assert theirs["key"] == key == flowfile.get_docker_secret_key() == flowfile.get_master_key()
    assert theirs["decrypted"] == [value for _, value in SECRETS]
    for (_, secret), encrypted, legacy in zip(SECRETS, theirs["encrypted"], theirs["legacy"], strict=True):
        assert flowfile.decrypt_secret(encrypted).get_secret_value() == secret
        assert flowfile.decrypt_secret(encrypted, 99).get_secret_value() == secret
        assert flowfile.decrypt_secret(legacy).get_secret_value() == secret


def test_flowfile_known_answers(configure: Configure) -> None:
    known = vectors("flowfile")
    for row in known["envelope_v1"] + known["legacy"]:
        configure(flowfile, FLOWFILE_MASTER_KEY=row["master_key"])
        user = row["user_id"] if row.get("kind") == "legacy_user_derived" else None
        assert flowfile.decrypt_secret(row["encrypted_value"], user).get_secret_value() == row["plaintext"]


def test_flowfile_gives_the_secret_or_fails(configure: Configure) -> None:
    differing = set()
    for row in vectors("flowfile")["decrypt_edge_cases"]:
        configure(flowfile, FLOWFILE_MASTER_KEY=row["master_key"])
        try:
            assert flowfile.decrypt_secret(row["encrypted_value"]).get_secret_value() == row["plaintext"]
        except (CorruptError, MalformedError):
            if row["ok"]:
                differing.add(row["case"])
        else:
            assert row["ok"], row["case"]
    # Spellings that Flowfile reads by chance and never writes.
    assert differing == {"plus_uid", "underscore_uid", "trailing_dollar", "std_alphabet"}


def test_flowfile_master_keys(configure: Configure) -> None:
    for row in vectors("flowfile")["master_key_env_forms"]:
        configure(flowfile, FLOWFILE_MASTER_KEY=row["env_value"])
        try:
            assert flowfile.get_docker_secret_key() == row["core"]["result"], row["case"]
        except RuntimeError as error:
            assert row["env_value"] not in str(error)
            assert not flowfile.is_master_key_configured()
            assert row["core"]["error"] == "RuntimeError"
        else:
            assert flowfile.is_master_key_configured() == (row["env_value"] != "")
    configure(flowfile, FLOWFILE_MASTER_KEY="")
    with pytest.raises(RuntimeError, match="Master key not configured"):
        flowfile.get_master_key()
    with pytest.raises(KeyMissingError):
        flowfile.encrypt_secret("secret", 1)


# Flowfile's own storage, which makes its directory and key: what it reads, then what it writes.
STORAGE = """
import json, sys
from flowfile_core.auth import secrets
found = {name: secrets.get_password("flowfile", name) for name in json.loads(sys.argv[1])}
secrets.set_password("flowfile", "theirs", "written by Flowfile")
print(json.dumps(found))
"""


def of_flowfile(directory: Path, *names: str) -> dict[str, str | None]:
    variables = {"FLOWFILE_MODE": "electron", "FLOWFILE_SKIP_INIT_DB": "1", "FLOWFILE_SECURE_STORAGE_PATH": str(directory)}
    others = {name: str(directory / name) for name in ("FLOWFILE_STORAGE_DIR", "FLOWFILE_USER_DATA_DIR")}
    done = subprocess.run(
        [sys.executable, "-c", STORAGE, json.dumps(names)],
        env={**os.environ, **variables, **others},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, str | None] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_flowfile_storage_reads_and_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert of_flowfile(tmp_path, "ours") == {"ours": None}
    monkeypatch.setenv("FLOWFILE_SECURE_STORAGE_PATH", str(tmp_path))
    storage = flowfile.SecureStorage()
    assert storage.get_password("flowfile", "theirs") == "written by Flowfile"
    assert storage.get_password("flowfile", "nobody") is None
    storage.set_password("flowfile", "ours", "gr\u00fc\u00dfe \U0001f511")
    storage.delete_password("flowfile", "theirs")
    storage.delete_password("flowfile", "nobody")
    assert tmp_path.joinpath("flowfile.json.enc").stat().st_mode & 0o777 == 0o600
    assert of_flowfile(tmp_path, "ours", "theirs") == {"ours": "gr\u00fc\u00dfe \U0001f511", "theirs": None}
    assert storage.get_password("flowfile", "theirs") == "written by Flowfile"
    assert [path.name for path in tmp_path.glob(".*.tmp")] == []


def test_flowfile_storage_known_answer(tmp_path: Path) -> None:
    known = json.loads((VECTORS / "flowfile-secure-storage.json").read_text())
    for name, content in known["files"].items():
        tmp_path.joinpath(name).write_text(content)
    storage = flowfile.SecureStorage(tmp_path)
    assert storage.get_password("flowfile", "master_key") == known["master_key"]


def test_flowfile_storage_is_never_replaced_unread(tmp_path: Path) -> None:
    storage = flowfile.SecureStorage(tmp_path)
    store = tmp_path / "flowfile.json.enc"
    with pytest.raises(IoError):
        storage.set_password("flowfile", "a", "without a key")
    assert list(tmp_path.iterdir()) == []
    storage.key_path.write_bytes(Fernet.generate_key())
    storage.set_password("flowfile", "a", "1")
    kept = store.read_bytes()
    for damaged, key in ((kept[:-9], None), (b"", None), (b"{}", None), (kept, Fernet.generate_key()), (kept, b"no key")):
        store.write_bytes(damaged)
        before = storage.key_path.read_bytes()
        storage.key_path.write_bytes(before if key is None else key)
        refused = pytest.raises((CorruptError, KeyMalformedError, MalformedError))
        with refused:
            storage.get_password("flowfile", "a")
        with refused:
            storage.set_password("flowfile", "a", "2")
        with refused:
            storage.delete_password("flowfile", "a")
        assert store.read_bytes() == damaged
        storage.key_path.write_bytes(before)
    store.write_bytes(Fernet(storage.key_path.read_bytes()).encrypt(b"[]"))
    with pytest.raises(MalformedError):
        storage.get_password("flowfile", "a")
    with pytest.raises(ValueError, match="name of a file"):
        storage.get_password("../flowfile", "a")


def test_flowfile_in_tokens(configure: Configure) -> None:
    directory = configure(flowfile, FLOWFILE_MASTER_KEY=Fernet.generate_key().decode())
    directory.joinpath("kek").write_text(os.urandom(32).hex())
    with directory.joinpath("vault.toml").open("a") as manifest:
        manifest.write('\n[keyring.main]\nsources = ["file:kek"]\n')
    tokens = flowfile.Flowfile(Vault.load(), writes="vs1")
    value = tokens.encrypt_secret("sk-1", 7)
    token = value.removeprefix("$ffsec$vs1$7$")
    assert token.startswith("vs1.")
    for given in ((value,), (value, 7), (value, 8), (token, 7)):
        assert tokens.decrypt_secret(*given).get_secret_value() == "sk-1"
        assert flowfile.decrypt_secret(*given).get_secret_value() == "sk-1"
    assert tokens.decrypt_secret(flowfile.encrypt_secret("sk-2", 7)).get_secret_value() == "sk-2"
    for other in ((token, 8), (value.replace("$7$", "$8$"),)):
        with pytest.raises(ContextMismatchError):
            tokens.decrypt_secret(*other)
    with pytest.raises(ValueError, match="needs the user_id"):
        tokens.decrypt_secret(token)
    for damaged in ("$ffsec$vs1$7", f"$ffsec$vs1$07${token}", f"$ffsec$vs1$+7${token}", "$ffsec$vs1$7$x"):
        with pytest.raises(MalformedError):
            tokens.decrypt_secret(damaged)
    for user in (7.9, "7", None):
        with pytest.raises(TypeError):
            tokens.encrypt_secret("sk-1", user)  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            flowfile.encrypt_secret("sk-1", user)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="writes is"):
        flowfile.Flowfile(Vault.load(), writes="fernet")


def settings() -> Any:
    class Settings(fingerflow.BaseSettings):
        database_url: str = "postgresql://fingerflow:default@localhost:5432/fingerflow"
        secret_key: str = "dev-secret-key-change-in-production"
        smtp_port: int = 587
        smtp_password: str = ""
        google_client_secret: str = ""
        log_level: str = "INFO"

        model_config = SettingsConfigDict(env_file=".env", case_sensitive=False, extra="ignore")

    return Settings()


def test_fingerflow_settings(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = configure(fingerflow, SECRET_KEY="0123456789abcdef" * 2, POSTGRES_PASSWORD="p@ss/w#rd", LOG_LEVEL="DEBUG")
    monkeypatch.chdir(directory)
    directory.joinpath(".env").write_text("SECRET_KEY=of-the-file\nSMTP_PORT=25\nSMTP_PASSWORD=mail\n")
    made = settings()
    assert made.secret_key == "0123456789abcdef" * 2
    assert made.database_url == "postgresql://fingerflow:p%40ss%2Fw%23rd@postgres:5432/fingerflow"
    assert (made.smtp_port, made.log_level, made.google_client_secret) == (25, "DEBUG", "")
    # Not required, and nowhere where the vault looks: as before.
    assert made.smtp_password == "mail"


@pytest.mark.parametrize("secret_key", [None, ""])
def test_fingerflow_never_starts_with_a_default(configure: Configure, secret_key: str | None) -> None:
    configure(fingerflow, POSTGRES_PASSWORD="p", **({} if secret_key is None else {"SECRET_KEY": secret_key}))
    with pytest.raises(NotFoundError):
        settings()


def theirs(key: str) -> Fernet:
    """What the face-recognition API makes of its key text, by another implementation."""
    derived = PBKDF2HMAC(hashes.SHA256(), 32, b"homomorphic_face_salt", 100_000).derive(key.encode())
    return Fernet(base64.urlsafe_b64encode(derived))


FACE_KEY = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"


class Base(DeclarativeBase):
    pass


class Record(Base):
    __tablename__ = "record"
    id: Mapped[int] = mapped_column(primary_key=True)
    ip: Mapped[Any] = mapped_column(face.PGPEncryptedType(), nullable=True)
    data: Mapped[Any] = mapped_column(face.EncryptedJSONType(), nullable=True)


def test_face_reads_and_is_read(configure: Configure) -> None:
    configure(face, DB_ENCRYPTION_KEY=FACE_KEY)
    assert face.get_encryption_key() == FACE_KEY
    for secret in ("203.0.113.9", "", "пароль-🔐"):
        assert theirs(FACE_KEY).decrypt(face.encrypt_column_data(secret)).decode() == secret
        assert theirs(FACE_KEY).decrypt(face.encrypt_column_data(secret.encode())).decode() == secret
        assert face.decrypt_column_data(theirs(FACE_KEY).encrypt(secret.encode())) == secret
    data = {"ip": "10.0.0.1", "u": "é", "n": 1}
    assert json.loads(theirs(FACE_KEY).decrypt(face.encrypt_json_metadata(data))) == data
    assert theirs(FACE_KEY).decrypt(face.encrypt_json_metadata(data)).decode() == json.dumps(data, ensure_ascii=False)
    inner = theirs(FACE_KEY).encrypt(json.dumps(data).encode())
    outer = theirs(FACE_KEY).encrypt(json.dumps(str(inner)).encode())
    assert face.decrypt_json_metadata(inner) == face.decrypt_json_metadata(outer) == data


def test_face_known_answers(configure: Configure) -> None:
    known = vectors("face")
    for row in known["encrypt_column_data"]:
        configure(face, DB_ENCRYPTION_KEY=row["db_encryption_key"])
        # One trailing line break is the file's and not the key's, also in a variable.
        if row["db_encryption_key"].endswith("\n"):
            with pytest.raises(CorruptError):
                face.decrypt_column_data(row["column_bytes_ascii"].encode())
        else:
            assert face.decrypt_column_data(row["column_bytes_ascii"].encode()) == row["plaintext"]
    columns = known["json_columns"]
    configure(face, DB_ENCRYPTION_KEY=columns["db_encryption_key"])
    for value in (columns["single"]["bytes_ascii"], columns["double"]["column_bytes_ascii"]):
        assert face.decrypt_json_metadata(value.encode()) == columns["metadata"]


def test_face_columns(configure: Configure) -> None:
    configure(face, DB_ENCRYPTION_KEY=FACE_KEY)
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    data = {"ip": "10.0.0.1"}
    with Session(engine) as session:
        session.add_all([Record(id=1, ip="203.0.113.9", data=data), Record(id=2)])
        # What the application's call sites do.
        session.add(Record(id=3, ip=face.encrypt_column_data("203.0.113.9"), data=face.encrypt_json_metadata(data)))
        session.commit()
        found = session.execute(select(Record.ip, Record.data).order_by(Record.id)).all()
        assert [tuple(row) for row in found] == [("203.0.113.9", data), (None, None), ("203.0.113.9", data)]
        for column in ("ip", "data"):
            (stored,) = session.execute(text(f"SELECT {column} FROM record WHERE id = 3")).one()
            assert theirs(FACE_KEY).decrypt(stored) in (b"203.0.113.9", b'{"ip": "10.0.0.1"}')


def test_face_gives_the_secret_or_fails(configure: Configure) -> None:
    configure(face, DB_ENCRYPTION_KEY=FACE_KEY)
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        for values in ({"ip": b"plain"}, {"data": b"plain"}, {"ip": theirs("other key").encrypt(b"x")}):
            session.add(Record(id=1, **values))
            with pytest.raises((CorruptError, MalformedError)):
                session.flush()
            session.rollback()
        session.add(Record(id=1, ip="203.0.113.9", data={}))
        session.commit()
        configure(face, DB_ENCRYPTION_KEY="another key text, of other bytes")
        for column in (Record.ip, Record.data):
            with pytest.raises(CorruptError):
                session.scalars(select(column)).all()
    untyped: Any = face
    with pytest.raises(TypeError):
        untyped.encrypt_column_data("x", FACE_KEY)
    with pytest.raises(MalformedError):
        face.decrypt_json_metadata(theirs("another key text, of other bytes").encrypt(b"[1]"))


@pytest.mark.parametrize("variables", [{}, {"FLASK_ENV": "development"}, {"DEBUG": "true"}, {"DB_ENCRYPTION_KEY": ""}])
def test_face_never_has_a_default_key(configure: Configure, variables: dict[str, str]) -> None:
    configure(face, **variables)
    for call in (face.get_encryption_key, lambda: face.encrypt_column_data("x")):
        with pytest.raises(Error):
            call()


def test_face_reads_the_files_of_its_deployment(configure: Configure, tmp_path: Path) -> None:
    tmp_path.joinpath("db_encryption_key").write_text(f"{FACE_KEY}\n")
    configure(face, DB_ENCRYPTION_KEY_FILE=str(tmp_path / "db_encryption_key"))
    assert face.get_encryption_key() == FACE_KEY
    assert theirs(FACE_KEY).decrypt(face.encrypt_column_data("x")) == b"x"


def test_face_in_tokens(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = configure(face, DB_ENCRYPTION_KEY=FACE_KEY)
    before = face.encrypt_column_data("203.0.113.9"), face.encrypt_json_metadata({"a": 1})
    inner = theirs(FACE_KEY).encrypt(b'{"a": 1}')
    double = theirs(FACE_KEY).encrypt(json.dumps(str(inner)).encode())
    directory.joinpath("kek").write_text(os.urandom(32).hex())
    with directory.joinpath("vault.toml").open("a") as manifest:
        manifest.write('\n[keyring.main]\nsources = ["file:kek"]\n')
    monkeypatch.setenv("VAULT_CORE_WRITES", "vs1")
    face._default.cache_clear()
    sealed = face.encrypt_column_data("203.0.113.9"), face.encrypt_json_metadata({"a": 1})
    assert all(value.startswith(b"vs1.") for value in sealed)
    for address in (sealed[0], before[0]):
        assert face.decrypt_column_data(address) == "203.0.113.9"
    # As the application calls it, also with what the column's type gave.
    for metadata in (sealed[1], before[1], double, {"a": 1}):
        assert face.decrypt_json_metadata(metadata) == {"a": 1}
    with pytest.raises(ContextMismatchError):
        face.decrypt_column_data(sealed[1])
    with pytest.raises(ValueError, match="writes is"):
        face.Face(Vault.load(), writes="vs2")


def test_face_consent_texts() -> None:
    known = vectors("face")["other"]["hash_consent_text"]
    assert face.hash_consent_text(known["input"]) == known["output"]
    assert face.verify_consent_hash(f" {known['input']} ", known["output"])
    assert not face.verify_consent_hash("I do not", known["output"])


def test_flowfile_of_another_release_is_refused(tmp_path: Path) -> None:
    """Nothing runs with its own functions where the launcher was to replace them."""
    package = tmp_path / "flowfile_worker"
    package.mkdir()
    package.joinpath("__init__.py").write_text("")
    package.joinpath("secrets.py").write_text("def decrypt(value): ...\n")
    code = "from vault_core.applications import flowfile; flowfile.install(); flowfile.install(); import flowfile_worker.secrets"
    for program, said in (
        (code, "has no flowfile_worker.secrets.get_docker_secret_key"),
        (code.replace("flowfile.install(); flowfile", "import flowfile_worker.secrets; flowfile", 1), "was imported before"),
    ):
        done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 1 and said in done.stderr, done.stderr
