"""A backend in the shape of FingerFlow: FastAPI, pydantic-settings, python-jose, SQLAlchemy, TOTP."""

from datetime import UTC, datetime, timedelta

import pyotp
from fastapi import FastAPI, Header, HTTPException
from jose import JWTError, jwt
from pydantic import BaseModel
from sqlalchemy import Text, create_engine, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from vault_core import Context, Vault
from vault_core.applications.fingerflow import BaseSettings
from vault_core.frameworks.jwt import SigningKeys
from vault_core.frameworks.reading import plaintext
from vault_core.frameworks.sqlalchemy import SealedText


class Settings(BaseSettings):
    secret_key: str = "dev-secret-key-change-in-production"
    database_url: str = "postgresql://fingerflow:default@localhost/fingerflow"
    algorithm: str = "HS256"
    access_token_expire_minutes: int = 30


settings = Settings()
vault = Vault.load()
keys = SigningKeys(vault, "SECRET_KEY", grace=timedelta(minutes=settings.access_token_expire_minutes))
engine = create_engine(settings.database_url.replace("postgresql:", "postgresql+psycopg:"), hide_parameters=True)


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(Text)
    two_factor_secret: Mapped[str | None] = mapped_column(
        SealedText(vault, Context("totp", name="users.two_factor_secret"), reads=(plaintext,))
    )


class Login(BaseModel):
    email: str
    code: str


app = FastAPI()


@app.get("/health")
def health() -> dict[str, str]:
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
    return {"status": "healthy"}


@app.post("/auth/register")
def register(given: Login) -> dict[str, str]:
    secret = pyotp.random_base32()
    with Session(engine) as session:
        session.add(User(email=given.email, two_factor_secret=secret))
        session.commit()
    return {"secret": secret}


@app.post("/auth/login")
def login(given: Login) -> dict[str, str]:
    with Session(engine) as session:
        user = session.scalars(select(User).where(User.email == given.email)).one()
        if not pyotp.TOTP(user.two_factor_secret or "").verify(given.code, valid_window=1):
            raise HTTPException(401)
        ends = datetime.now(UTC) + timedelta(minutes=settings.access_token_expire_minutes)
        payload = {"user_id": user.id, "email": user.email, "exp": ends}
    # utils/auth: settings.secret_key is what the package's keys give now.
    return {"access_token": jwt.encode(payload, keys.current, algorithm=settings.algorithm)}


@app.get("/me")
def me(authorization: str = Header()) -> dict[str, str]:
    try:
        payload = keys.decode(jwt.decode, authorization.removeprefix("Bearer "), algorithms=[settings.algorithm])
    except JWTError:
        raise HTTPException(401) from None
    return {"email": payload["email"]}
