"""A vault that is loaded before a server forks: gunicorn with --preload, Celery's prefork workers."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from conftest import CONTEXT
from vault_core import Sealer

GUNICORN = """
import os
from vault_core import Context, Sealer

loaded = os.getpid()
sealer = Sealer.from_key_file("kek_1")
sealer.seal(Context("warm"), b"")

def app(environ, start_response):
    start_response("200 OK", [])
    token = sealer.seal(Context("user-secret", tenant="42", name="prod_db"), b"secret")
    return [f"{loaded} {os.getpid()} {token}".encode()]
"""

CELERY = """
import os
import time
from pathlib import Path
from celery import Celery
from vault_core import Context, Sealer

loaded = os.getpid()
sealer = Sealer.from_key_file("kek_1")
sealer.seal(Context("warm"), b"")
app = Celery("tasks", broker="filesystem://", backend="file://results")
app.conf.broker_transport_options = {"data_folder_in": "queue", "data_folder_out": "queue"}
app.conf.worker_hijack_root_logger = False
app.conf.broker_connection_retry_on_startup = True

@app.task
def seal(count):
    # A task keeps its worker until another has one too.
    Path("workers", str(os.getpid())).touch()
    deadline = time.monotonic() + 50
    while len(os.listdir("workers")) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    context = Context("user-secret", tenant="42", name="prod_db")
    return loaded, os.getpid(), [sealer.seal(context, b"secret") for _ in range(count)]
"""


def test_gunicorn_preload(key_file: Path, sealer: Sealer) -> None:
    directory = key_file.parent
    directory.joinpath("application.py").write_text(GUNICORN)
    path = directory / "socket"
    command = ["gunicorn", "--preload", "--workers=4", f"--bind=unix:{path}", "application:app"]
    with server(command, directory):
        answers = [get(path).split()]
        # A request that is not whole keeps its worker, so the requests after it go to others.
        with socket.socket(socket.AF_UNIX) as unfinished:
            unfinished.connect(str(path))
            unfinished.sendall(b"GET / HTTP/1.0\r\n")
            answers += [get(path).split() for _ in range(100)]
            unfinished.sendall(b"\r\n")
            answer = unfinished.makefile("rb").read().decode()
        answers.append(answer.partition("\r\n\r\n")[2].split())
    check(sealer, {loaded for loaded, _, _ in answers}, {worker for _, worker, _ in answers}, [t for _, _, t in answers])


def test_celery_prefork(key_file: Path, sealer: Sealer) -> None:
    directory = key_file.parent
    directory.joinpath("tasks.py").write_text(CELERY)
    for name in ("queue", "results", "workers"):
        directory.joinpath(name).mkdir()
    options = ["--pool=prefork", "--concurrency=4", "--without-gossip", "--without-mingle", "--without-heartbeat"]

    def run(script: str) -> Any:
        script = f"import json, tasks; print(json.dumps({script}))"
        return json.loads(subprocess.check_output([sys.executable, "-c", script], cwd=directory, timeout=60))

    # A queue of files may be read while it is written: who sends, who works and who reads take turns.
    sent = run("[tasks.seal.delay(50).id for _ in range(40)]")
    with server(["celery", "--app=tasks", "worker", "--loglevel=WARNING", *options], directory):
        deadline = time.monotonic() + 60
        while len(list(directory.joinpath("results").glob("celery-task-meta-*"))) < len(sent):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    answers = run(f"[tasks.app.AsyncResult(each).get(timeout=1) for each in {sent!r}]")
    tokens = [token for _, _, sealed in answers for token in sealed]
    check(sealer, {str(loaded) for loaded, _, _ in answers}, {str(worker) for _, worker, _ in answers}, tokens)


def check(sealer: Sealer, loaded: set[str], workers: set[str], tokens: list[str]) -> None:
    """One process loaded the vault, others used it, and no two tokens have one data key."""
    assert len(loaded) == 1
    assert len(workers) >= 2
    assert not loaded & workers
    assert len({token.split(".")[2] for token in tokens}) == len(tokens)
    assert set(sealer.open_many((CONTEXT, token) for token in tokens)) == {b"secret"}


@contextmanager
def server(command: list[str], directory: Path) -> Iterator[None]:
    with directory.joinpath("log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *command], cwd=directory, stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield
        assert process.poll() is None
    except BaseException:
        print(directory.joinpath("log").read_text())
        raise
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def get(path: Path) -> str:
    """An answer of a server at a socket, which may not be there yet."""
    for _ in range(300):
        connection = http.client.HTTPConnection("localhost")
        connection.sock = socket.socket(socket.AF_UNIX)
        try:
            connection.sock.connect(str(path))
            connection.request("GET", "/")
            answer = connection.getresponse()
            text = answer.read().decode()
            assert answer.status == 200, text
            return text
        except (FileNotFoundError, ConnectionRefusedError):
            time.sleep(0.1)
        finally:
            connection.close()
    raise TimeoutError("the server does not answer")
