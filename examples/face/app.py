"""Stores consents and audit rows at the places and in the ways of the face API: Flask, SQLAlchemy, gunicorn, Celery."""

import os

from celery import Celery
from encryption_utils import EncryptedJSONType, PGPEncryptedType, decrypt_json_metadata, encrypt_json_metadata, setup_pgcrypto
from flask import Flask, jsonify, request
from sqlalchemy import Text, create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column


class Base(DeclarativeBase):
    pass


class Consent(Base):
    __tablename__ = "consent_records"
    id: Mapped[int] = mapped_column(primary_key=True)
    username: Mapped[str] = mapped_column(Text)
    ip_address_encrypted: Mapped[str] = mapped_column(PGPEncryptedType())


class Audit(Base):
    __tablename__ = "audit_logs"
    id: Mapped[int] = mapped_column(primary_key=True)
    username: Mapped[str] = mapped_column(Text)
    metadata_encrypted: Mapped[dict] = mapped_column(EncryptedJSONType())


url = "postgresql+psycopg://app:{DB_PASSWORD}@127.0.0.1:{DB_PORT}/app".format(**os.environ)
engine = create_engine(url, hide_parameters=True)
app = Flask(__name__)
app.config["SECRET_KEY"] = os.environ["SECRET_KEY"]
tasks = Celery("tasks", broker="filesystem://", backend="file://results")
tasks.conf.update(
    broker_transport_options={"data_folder_in": "queue", "data_folder_out": "queue"},
    broker_connection_retry_on_startup=True,
)
setup_pgcrypto(engine)


@app.get("/health")
def health():
    return jsonify(ok=True)


@app.post("/consent")
def grant():
    given = request.get_json()
    with Session(engine) as session:
        session.add(Consent(username=given["username"], ip_address_encrypted=given["ip"]))
        session.add(Audit(username=given["username"], metadata_encrypted=encrypt_json_metadata({"ip": given["ip"]})))
        session.commit()
    return jsonify(ok=True), 201


@app.post("/export")
def export():
    """What the law wants a person to be given."""
    return jsonify(exported(request.get_json()["username"]))


@tasks.task(name="tasks.exported")
def exported(username):
    with Session(engine) as session:
        addresses = session.scalars(select(Consent.ip_address_encrypted).where(Consent.username == username)).all()
        rows = session.scalars(select(Audit.metadata_encrypted).where(Audit.username == username)).all()
        return {"addresses": addresses, "metadata": [decrypt_json_metadata(row) for row in rows]}
