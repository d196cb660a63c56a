"""Servers that call no refresh, under load, while their keys are changed as an operator types it: a gunicorn
of two workers with SQLAlchemy, and a server of Node."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
COMMAND = PROJECT / os.environ.get("CARGO_TARGET_DIR", "target") / "debug/vault"
ROWS = 200

MANIFEST = """
version = 1
[vault]
follow = "200ms"
{store}[keyring.main]
sources = ["file:keys/kek_*"]
state = "{state}"
[[column]]
name = "app.secrets"
database = "sqlite:app.db"
table = "secret"
row = ["id"]
value = "value"
reads = ["vs1"]
writes = "vs1"
linked = true
context = {{ purpose = "user-secret", name = "app.secrets" }}
"""

# Loaded before the server forks. Each request reads a row and writes it again.
GUNICORN = """
from sqlalchemy import create_engine, update
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from vault_core import Context, Vault
from vault_core.frameworks.sqlalchemy import SealedText

vault = Vault.load("vault.toml")

class Base(DeclarativeBase):
    pass

class Secret(Base):
    __tablename__ = "secret"
    id: Mapped[int] = mapped_column(primary_key=True)
    value: Mapped[str] = mapped_column(SealedText(vault, Context("user-secret", name="app.secrets")))

engine = create_engine("sqlite:///app.db", hide_parameters=True, connect_args={"timeout": 60})
Base.metadata.create_all(engine)
with Session(engine) as session:
    session.add_all(Secret(id=number, value=f"secret {number}") for number in range(1, 201))
    session.commit()
engine.dispose()

def app(environ, start_response):
    number = int(environ["PATH_INFO"].strip("/"))
    with Session(engine) as session:
        answer = session.get(Secret, number).value
    with Session(engine) as session:
        session.execute(update(Secret).where(Secret.id == number).values(value=answer))
        session.commit()
    start_response("200 OK", [])
    return [answer.encode()]
"""

# Each request opens a token and seals it again: whoever asks has the rows.
NODE = """
const http = require('node:http');
const { Context, Vault } = require(process.argv[2]);
const vault = Vault.load('vault.toml');
const context = new Context('user-secret', { name: 'app.secrets' });
http.createServer((request, response) => {
  const parts = [];
  request.on('data', (part) => parts.push(part)).on('end', () => {
    try {
      const opened = vault.open(context, Buffer.concat(parts).toString());
      response.end(JSON.stringify({ opened: opened.toString(), sealed: vault.seal(context, opened) }));
    } catch (error) {
      response.statusCode = 500;
      response.end(error.code ?? String(error));
    }
  });
}).listen('socket');
"""


@pytest.mark.parametrize("store", [False, True], ids=["states in a file", "states in SQLite"])
def test_gunicorn_follows(tmp_path: Path, store: bool) -> None:
    configure(tmp_path, store)
    tmp_path.joinpath("application.py").write_text(GUNICORN)

    def ask(number: int) -> None:
        status, answer = request(tmp_path, "GET", f"/{number}")
        assert (status, answer) == (200, f"secret {number}"), answer

    command = ["gunicorn", "--preload", "--workers=2", "--bind=unix:socket", "application:app"]
    with server([sys.executable, "-m", *command], tmp_path), load(ask) as passes:
        for number in range(2, 5):
            rotate(tmp_path, number, passes)


def test_node_follows(tmp_path: Path) -> None:
    configure(tmp_path, False)
    tmp_path.joinpath("server.js").write_text(NODE)
    with database(tmp_path) as rows:
        rows.execute("CREATE TABLE secret (id INTEGER PRIMARY KEY, value TEXT)")
        kek = str(tmp_path / "keys/kek_1")
        context = ["--purpose", "user-secret", "--name", "app.secrets"]
        for number in range(1, 21):
            secret = f"secret {number}"
            sealed = vault(tmp_path, "seal", "--key-file", kek, *context, text=secret).strip()
            rows.execute("INSERT INTO secret VALUES (?, ?)", (number, sealed))

    def ask(number: int) -> None:
        number = number % 20 + 1
        with database(tmp_path) as rows:
            ((token,),) = rows.execute("SELECT value FROM secret WHERE id = ?", (number,)).fetchall()
        status, answer = request(tmp_path, "POST", "/", token)
        assert status == 200, answer
        told = json.loads(answer)
        assert told["opened"] == f"secret {number}"
        with database(tmp_path) as rows:
            rows.execute("UPDATE secret SET value = ? WHERE id = ?", (told["sealed"], number))

    node = shutil.which("node")
    assert node is not None
    with server([node, "server.js", str(PROJECT / "node")], tmp_path), load(ask) as passes:
        for number in range(2, 5):
            rotate(tmp_path, number, passes)


def configure(directory: Path, store: bool) -> None:
    declared = '[store]\nurl = "sqlite:vault.db"\n' if store else ""
    state = "store" if store else "main.keyring.toml"
    directory.joinpath("vault.toml").write_text(MANIFEST.format(store=declared, state=state))
    directory.joinpath("keys").mkdir()
    vault(directory, "key", "generate", "--out", "keys/kek_1")
    if store:
        vault(directory, "init", "--store-only")


def vault(directory: Path, *arguments: str, text: str | None = None) -> str:
    environment = {"PATH": os.environ["PATH"]}
    ran = subprocess.run(
        [COMMAND, *arguments], cwd=directory, env=environment, input=text, capture_output=True, text=True, timeout=120
    )
    assert ran.returncode == 0, (arguments, ran.stdout, ran.stderr)
    return ran.stdout


def key_in(directory: Path, state: str) -> str:
    keys = json.loads(vault(directory, "key", "list", "--json"))["keys"]
    (found,) = [key["kid"] for key in keys if key["state"] == state]
    return str(found)


def rotate(directory: Path, number: int, passes: Callable[[], None]) -> None:
    """What is typed for a new key, with a rotator that is killed."""

    def lease() -> None:
        # No process seals by older states then, and what was sealed before is written.
        time.sleep(0.2)
        passes()

    old = key_in(directory, "primary")
    vault(directory, "key", "generate", "--out", f"next_{number}")
    vault(directory, "key", "add", f"next_{number}", "--label", str(number))
    lease()
    vault(directory, "key", "promote", key_in(directory, "active"), "--yes")
    slow: list[str | Path] = [COMMAND, "rotate", "run", "--batch", "10", "--rows-per-second", "50"]
    rotator = subprocess.Popen(slow, cwd=directory, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    passes()
    rotator.send_signal(signal.SIGKILL)
    rotator.wait(60)
    vault(directory, "rotate", "run")
    lease()
    vault(directory, "rotate", "fence")
    vault(directory, "rotate", "verify")
    lease()
    vault(directory, "key", "disable", old, "--yes")
    passes()


@contextmanager
def load(ask: Callable[[int], None]) -> Iterator[Callable[[], None]]:
    """Asks in three threads without a pause; gives what waits until each has asked and been answered anew.
    No request may fail."""
    ends = threading.Event()
    failures: list[BaseException] = []
    done = [0, 0, 0]

    def work(thread: int) -> None:
        number = thread
        while not ends.is_set():
            number = number * 31 % 199 + 1
            try:
                ask(number)
            except BaseException as error:
                failures.append(error)
                return
            done[thread] += 1

    def passes() -> None:
        before, began = list(done), time.monotonic()
        while not all(now >= then + 2 for now, then in zip(done, before)) and not failures:
            assert time.monotonic() - began < 120, "the server does not answer"
            time.sleep(0.01)

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(len(done))]
    for thread in threads:
        thread.start()
    try:
        yield passes
    finally:
        ends.set()
        for thread in threads:
            thread.join(120)
    assert not failures, failures[0]


@contextmanager
def database(directory: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(directory / "app.db", timeout=60)
    try:
        with connection:
            yield connection
    finally:
        connection.close()


@contextmanager
def server(command: list[str], directory: Path) -> Iterator[None]:
    with open(directory / "log", "wb") as log:
        process = subprocess.Popen(command, cwd=directory, stdout=log, stderr=log, start_new_session=True)
    try:
        began = time.monotonic()
        while not answers(directory):
            assert process.poll() is None, (directory / "log").read_text()
            assert time.monotonic() - began < 60, "the server does not start"
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(30)


def answers(directory: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as connection:
        return connection.connect_ex(str(directory / "socket")) == 0


class Connection(http.client.HTTPConnection):
    """To a server at a path."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=120)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self.path))


def request(directory: Path, method: str, path: str, body: str | None = None) -> tuple[int, str]:
    connection = Connection(directory / "socket")
    try:
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()
