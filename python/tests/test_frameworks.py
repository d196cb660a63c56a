"""The frameworks' own machinery, with vaults in memory and databases in files."""

from __future__ import annotations

import asyncio
import codecs
import pickle
import shutil
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask, session
from jose import JWTError, jwt as jose
from pydantic import AliasChoices, AliasPath, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
from sqlalchemy import (
    Column as SQLColumn,
    Integer,
    MetaData,
    String,
    Table,
    bindparam,
    case,
    cast,
    create_engine,
    func,
    insert,
    literal,
    literal_column,
    null,
    select,
    text,
    type_coerce,
    update,
)
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from vault_core import Context, ContextMismatchError, Error as VaultError, MalformedError, NotFoundError, Vault
from vault_core.frameworks import jwt
from vault_core.frameworks.flask import configure
from vault_core.frameworks.pydantic import VaultSettingsSource
from vault_core.frameworks.reading import plaintext
from vault_core.frameworks.sqlalchemy import SealedBytes, SealedText
from vault_core_testing import TestVault

STORES = Path(__file__).resolve().parents[2] / "tests/conformance/fixtures/stores"
VAULT = TestVault.new({"DATABASE_URL": "postgresql://u:p@h/d", "SMTP_PORT": "no number", "API": "sk-1"})


class Base(DeclarativeBase):
    pass


class Account(Base):
    __tablename__ = "account"
    id: Mapped[int] = mapped_column(primary_key=True)
    api_key: Mapped[str | None] = mapped_column(SealedText(VAULT, Context("user-secret", name="account.api_key")))
    seed: Mapped[bytes | None] = mapped_column(
        SealedBytes(lambda: VAULT, Context("user-secret", name="account.seed"))
    )


def settings(*secrets: str, **names: str) -> type[BaseSettings]:
    class Settings(BaseSettings):
        model_config = SettingsConfigDict(hide_input_in_errors=True)
        database_url: SecretStr = SecretStr("postgresql://default")
        smtp_port: int = 587
        workers: int = 4

        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return init_settings, VaultSettingsSource(settings_cls, VAULT, names or secrets), env_settings

    return Settings


def test_pydantic_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "of the process")
    monkeypatch.setenv("WORKERS", "7")
    made = settings("database_url")().model_dump()
    assert made["database_url"].get_secret_value() == "postgresql://u:p@h/d"
    assert (made["smtp_port"], made["workers"]) == (587, 7)
    assert settings(database_url="API")().model_dump()["database_url"].get_secret_value() == "sk-1"


def test_pydantic_settings_take_a_field_with_aliases_from_the_vault(monkeypatch: pytest.MonkeyPatch) -> None:
    class Settings(BaseSettings):
        model_config = SettingsConfigDict(extra="ignore")
        database: str = Field("default", validation_alias=AliasChoices("database_url", "db_url"))
        nested: str = Field("default", validation_alias=AliasPath("some", "place"))

    monkeypatch.setenv("DB_URL", "of the process")
    source = VaultSettingsSource(Settings, VAULT, {"database": "DATABASE_URL"})
    assert Settings(**source()).database == "postgresql://u:p@h/d"
    with pytest.raises(TypeError, match="the field nested has no alias that is a name"):
        VaultSettingsSource(Settings, VAULT, {"nested": "API"})()


def test_pydantic_settings_never_fall_back() -> None:
    with pytest.raises(NotFoundError):
        settings("workers")()
    with pytest.raises(TypeError, match="has no field passwrd"):
        settings("passwrd")()
    with pytest.raises(ValidationError) as raised:
        settings("smtp_port")()
    assert "no number" not in str(raised.value)


def test_pydantic_settings_leave_what_is_not_required(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.joinpath("vault.toml").write_text("version = 1\n[secrets.WORKERS]\nrequired = false\n")
    monkeypatch.setattr(sys.modules[__name__], "VAULT", Vault.load(tmp_path / "vault.toml", variables={}))
    assert settings("workers")().model_dump()["workers"] == 4


def test_sqlalchemy(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path}/app.db")
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all([Account(id=1, api_key="sk-ä", seed=b"\x00\xff"), Account(id=2)])
        session.commit()
    with Session(engine) as session:
        first, second = session.scalars(select(Account).order_by(Account.id)).all()
        assert (first.api_key, first.seed) == ("sk-ä", b"\x00\xff")
        assert (second.api_key, second.seed) == (None, None)
        assert session.scalars(select(Account.id).where(Account.api_key.is_(None))).all() == [2]
        assert session.scalars(select(Account.id).where(Account.api_key != None)).all() == [1]  # noqa: E711
        stored = session.execute(text("SELECT api_key, seed FROM account WHERE id = 1")).one()
        assert VAULT.open(Context("user-secret", name="account.api_key"), stored.api_key) == "sk-ä".encode()
        with pytest.raises(TypeError):
            select(Account).where(Account.api_key == "sk-ä")
        with pytest.raises(TypeError):
            select(Account).where(Account.api_key.like("sk%"))
    engine.dispose()


def test_sqlalchemy_gives_nothing_that_does_not_open(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path}/app.db")
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(Account(id=1, api_key="sk-1", seed=b"seed"))
        session.commit()
        session.execute(text("UPDATE account SET api_key = seed"))
        with pytest.raises(ContextMismatchError):
            session.scalars(select(Account.api_key)).all()
        session.execute(text("UPDATE account SET api_key = 'plain'"))
        with pytest.raises(MalformedError):
            session.scalars(select(Account.api_key)).all()
        for values in ({"api_key": 7, "seed": b"s3cret"}, {"api_key": "s3cret", "seed": "text"}, {"api_key": "s3cret\udc80"}):
            session.rollback()
            session.add(Account(id=2, **values))
            with pytest.raises((TypeError, MalformedError)) as raised:
                session.flush()
            assert "s3cret" not in str(raised.value)
            pickle.loads(pickle.dumps(raised.value))
    engine.dispose()


SEALED = SealedText(VAULT, Context("user-secret", name="account.api_key"))


@pytest.mark.parametrize(
    "expression",
    [
        literal("s3cret"),
        literal("s3cret", String),
        literal("s3cret", SealedText(VAULT, Context("user-secret", name="another"))),
        bindparam("given", "s3cret", type_=String),
        func.lower("S3CRET"),
        func.lower("S3CRET", type_=SEALED),
        literal_column("'s3cret'", SEALED),
        cast(literal("s3cret"), SEALED),
        case((Account.id > 0, "s3cret"), else_=None),
        select(literal("s3cret")).scalar_subquery(),
        Account.seed,
        text("'s3cret'"),
    ],
)
def test_sqlalchemy_stores_no_expression_in_clear(expression: Any) -> None:
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    table: Any = Account.__table__
    with Session(engine) as session:
        session.add(Account(id=1, api_key="sk-1"))
        session.commit()
        changed: Any = update(table).values(api_key=expression).returning(table.c.id).cte()
        statements: list[Any] = [
            update(Account).values(api_key=expression),
            update(Account).ordered_values((Account.api_key, expression)),
            insert(Account).values(id=2, api_key=expression),
            insert(table).values([{"id": 2, "api_key": expression}, {"id": 3, "api_key": "sk-3"}]),
            sqlite_insert(table).values(id=1).on_conflict_do_update(index_elements=["id"], set_={"api_key": expression}),
            select(changed),
        ]
        for statement in statements:
            with pytest.raises(TypeError, match="api_key takes values and no expressions"):
                session.execute(statement)
            session.rollback()
        for account in (Account(id=4, api_key=expression), session.get(Account, 1)):
            assert account is not None
            account.api_key = expression
            session.add(account)
            with pytest.raises(TypeError, match="api_key takes values and no expressions"):
                session.flush()
            session.rollback()
        with pytest.raises(TypeError, match="api_key takes values and no expressions"):
            session.execute(insert(table).from_select(["id", "api_key"], select(literal(5), literal("s3cret"))))
        session.rollback()
        stored = session.execute(text("SELECT api_key FROM account")).scalars().all()
        assert len(stored) == 1 and stored[0].startswith("vs1.")
    engine.dispose()


def test_sqlalchemy_stores_what_is_sealed() -> None:
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    table: Any = Account.__table__
    with Session(engine) as session:
        session.execute(insert(Account), [{"id": 1, "api_key": "sk-1"}, {"id": 2, "api_key": "sk-2"}])
        session.execute(insert(table).values([{"id": 3, "api_key": "sk-3"}, {"id": 4, "api_key": None}]))
        session.execute(update(Account).where(Account.id == 3).values(api_key=literal("sk-33", SEALED)))
        session.execute(update(Account).where(Account.id == 4).values(api_key=type_coerce("sk-44", SEALED)))
        session.execute(update(Account).where(Account.id == 1).values(api_key=null(), seed=b"seed"))
        session.execute(update(Account), [{"id": 2, "api_key": "sk-22"}])
        copied = select(table.c.id + 4, table.c.api_key).where(table.c.id == 2)
        session.execute(insert(table).from_select(["id", "api_key"], copied))
        upsert = sqlite_insert(table).values(id=3, api_key="sk-333")
        session.execute(upsert.on_conflict_do_update(index_elements=["id"], set_={"api_key": upsert.excluded.api_key}))
        session.commit()
        assert session.execute(select(Account.id, Account.api_key).order_by(Account.id)).all() == [
            (1, None), (2, "sk-22"), (3, "sk-333"), (4, "sk-44"), (6, "sk-22"),
        ]
    engine.dispose()


def test_sqlalchemy_refuses_defaults_of_the_database() -> None:
    made = [
        Table("d", MetaData(), SQLColumn("id", Integer, primary_key=True), SQLColumn("v", SEALED, **default))
        for default in ({"server_default": "s3cret"}, {"default": func.lower("S3CRET")})
    ]
    for table in made:
        engine = create_engine("sqlite://")
        table.metadata.create_all(engine)
        with engine.begin() as connection, pytest.raises(TypeError, match="v takes values and no expressions"):
            connection.execute(insert(table).values(id=1))
        engine.dispose()


def test_sqlalchemy_reads_a_column_that_is_being_migrated() -> None:
    def rotated(value: str) -> bytes:
        if not value.startswith("rot13:"):
            raise MalformedError("malformed value: it is not rot13")
        return codecs.decode(value.removeprefix("rot13:"), "rot13").encode()

    column = SealedText(VAULT, Context("user-secret", name="account.api_key"), reads=(rotated, plaintext))
    table = Table("m", MetaData(), SQLColumn("id", Integer, primary_key=True), SQLColumn("v", column))
    engine = create_engine("sqlite://")
    table.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(table), [{"id": 1, "v": "sk-1"}])
        token = connection.execute(text("SELECT v FROM m")).scalar_one()
        assert token.startswith("vs1.")
        damaged = ["vs1" + token[3:-4], "ws1." + token[4:], f"'{token}'", f"b'{token}'", "$ffsec$1$2$gAAAA"]
        stored = ["plain", "rot13:frperg", *damaged]
        for number, value in enumerate(stored, 2):
            connection.execute(text("INSERT INTO m VALUES (:id, :v)"), {"id": number, "v": value})
        read = connection.execute(select(table.c.v).where(table.c.id < 4).order_by(table.c.id)).scalars().all()
        assert read == ["sk-1", "plain", "secret"]
        for number in range(4, 4 + len(damaged)):
            with pytest.raises(VaultError):
                connection.execute(select(table.c.v).where(table.c.id == number)).scalar_one()
        # What is written is a token whatever is read.
        connection.execute(update(table).values(v="sk-2"))
        assert connection.execute(text("SELECT count(*) FROM m WHERE v LIKE 'vs1.%'")).scalar_one() == len(stored) + 1
    engine.dispose()


def test_sqlalchemy_in_asynchronous_sessions(tmp_path: Path) -> None:
    async def use() -> list[str | None]:
        engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/app.db")
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        async with AsyncSession(engine) as session:
            session.add_all([Account(id=number, api_key=f"sk-{number}") for number in range(20)])
            await session.commit()
        async with AsyncSession(engine) as session:
            found = list((await session.scalars(select(Account.api_key).order_by(Account.id))).all())
        await engine.dispose()
        return found

    assert asyncio.run(use()) == [f"sk-{number}" for number in range(20)]


@pytest.fixture
def store(tmp_path: Path) -> Vault:
    """A vault with a store that has three versions of DB_PASSWORD, from the cases of every language."""
    # A copy, because a vault writes heartbeats beside its files.
    directory = tmp_path / "stores"
    shutil.copytree(STORES, directory)
    return Vault.load(directory / "vault.toml", variables={}, mounts=tmp_path / "mounts")


def test_flask(store: Vault) -> None:
    app = Flask(__name__)
    configure(app, VAULT, ["DATABASE_URL"], secret_key="API")
    assert app.config["DATABASE_URL"] == "postgresql://u:p@h/d"
    assert app.config["SECRET_KEY"] == "sk-1"
    configure(app, VAULT, {"SQLALCHEMY_DATABASE_URI": "DATABASE_URL"})
    assert app.config["SQLALCHEMY_DATABASE_URI"] == "postgresql://u:p@h/d"
    with pytest.raises(NotFoundError):
        configure(app, VAULT, {"SECRET_KEY": "API", "X": "MISSING"})
    configure(app, store, secret_key="DB_PASSWORD", fallbacks=1)
    assert app.config["SECRET_KEY_FALLBACKS"] == [store.secret("DB_PASSWORD@previous").expose_text()]
    configure(app, store, secret_key="DB_PASSWORD", fallbacks=9)
    assert app.config["SECRET_KEY_FALLBACKS"] == [store.secret(f"DB_PASSWORD@{n}").expose_text() for n in (2, 1)]


def test_flask_keeps_sessions_of_the_previous_key(store: Vault) -> None:
    def app(**keys: Any) -> Flask:
        made = Flask(__name__)
        made.add_url_rule("/set", "set", lambda: str(session.setdefault("user", "alice")))
        made.add_url_rule("/get", "get", lambda: str(session.get("user")))
        made.config.update(keys)
        return made

    before = app(SECRET_KEY=store.secret("DB_PASSWORD@previous").expose_text()).test_client()
    cookie = before.get("/set").headers["Set-Cookie"].split(";")[0]
    for fallbacks, user in ((1, "alice"), (0, "None")):
        after = app()
        configure(after, store, secret_key="DB_PASSWORD", fallbacks=fallbacks)
        assert after.test_client(use_cookies=False).get("/get", headers={"Cookie": cookie}).text == user


def test_django(tmp_path: Path) -> None:
    script = Path(__file__).with_name("django_site.py")
    done = subprocess.run([sys.executable, script, tmp_path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "all passed\n", "")


def test_importing_the_package_imports_no_framework() -> None:
    script = (
        "import sys, vault_core;"
        "print([name for name in sys.modules if name.split('.')[0] in"
        " ('pydantic', 'sqlalchemy', 'flask', 'django', 'cryptography', 'typing')])"
    )
    assert subprocess.check_output([sys.executable, "-I", "-S", "-c", f"import sys; sys.path[:0] = {sys.path!r}; {script}"]) == b"[]\n"


def test_tokens_outlive_a_new_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = SimpleNamespace(wall=1_000_000.0, steady=0.0)
    monkeypatch.setattr(jwt, "time", SimpleNamespace(time=lambda: now.wall, monotonic=lambda: now.steady))
    tmp_path.joinpath("vault.toml").write_text("version = 1\n")
    tmp_path.joinpath("key").write_text("first\n")
    vault = Vault.load(tmp_path / "vault.toml", variables={}, mounts=tmp_path)
    keys = jwt.SigningKeys(vault, "KEY", grace=timedelta(seconds=60))

    def verified(token: str) -> Any:
        return keys.decode(jose.decode, token, algorithms=["HS256"])

    old = jose.encode({"n": 0}, keys.current, algorithm="HS256")
    tmp_path.joinpath("key_previous").write_text("first\n")
    tmp_path.joinpath("key").write_text("second\n")
    # Another process has it already: what that signs is verified at once.
    now.steady += 1.5
    assert keys.current == "first"
    new = jose.encode({"n": 1}, "second", algorithm="HS256")
    assert verified(new) == {"n": 1}
    now.steady += 5.5
    assert keys.current == "second"
    assert verified(old) == {"n": 0}
    for forged in (jose.encode({}, "another", algorithm="HS256"), jose.encode({}, "second", algorithm="HS512")):
        with pytest.raises(JWTError):
            verified(forged)
    now.wall += 61
    with pytest.raises(JWTError):
        verified(old)
    assert verified(new) == {"n": 1}
    with pytest.raises(ValueError, match="negative"):
        jwt.SigningKeys(vault, "KEY", grace=timedelta(seconds=-1))


def test_tokens_are_verified_with_the_version_before(tmp_path: Path) -> None:
    shutil.copytree(STORES, tmp_path, dirs_exist_ok=True)
    vault = Vault.load(tmp_path / "vault.toml")
    current, previous = vault.secret("DB_PASSWORD").expose_text(), vault.secret("DB_PASSWORD@previous").expose_text()
    since = vault.versions("DB_PASSWORD")[0][1]
    old = jose.encode({"n": 1}, previous, algorithm="HS256")
    long = jwt.SigningKeys(vault, "DB_PASSWORD", grace=timedelta(seconds=time.time() - since + 3600))
    assert long.current == current
    assert long.decode(jose.decode, old, algorithms=["HS256"]) == {"n": 1}
    with pytest.raises(JWTError):
        jwt.SigningKeys(vault, "DB_PASSWORD", grace=timedelta(0)).decode(jose.decode, old, algorithms=["HS256"])

