"""What the days of the applications share: a place, `vault`, a PostgreSQL, programs, and people who use them."""

from __future__ import annotations

import glob
import http.client
import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
VAULT = os.environ.get("VAULT", str(ROOT / "target/debug/vault"))
# How long anything may take before it is a failure.
PATIENCE = 120.0


class Day:
    """A directory that holds a copy of an example, and what runs in it."""

    def __init__(self, name: str) -> None:
        self.stack = ExitStack()
        self.place = Path(tempfile.mkdtemp(prefix=f"vault-{name}-"))
        self.stack.callback(shutil.rmtree, self.place, ignore_errors=True)
        self.example = ROOT / "examples" / name
        shutil.copytree(self.example, self.place, dirs_exist_ok=True, ignore=shutil.ignore_patterns("node_modules"))
        self.environment = {
            "PATH": f"{Path(VAULT).parent}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(self.place),
            "LANG": "C.UTF-8",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self.users: list[Users] = []

    def __enter__(self) -> Day:
        return self

    def __exit__(self, *error: object) -> None:
        for log in self.place.glob("*.log") if error[0] else ():
            print(f"-- {log.name}\n{log.read_text(errors='replace')[-3000:]}", flush=True)
        for users in self.users:
            users.stop()
        self.stack.close()

    def node_modules(self) -> None:
        """The packages of examples/package.json, and this one, as npm would put them here."""
        found = self.place / "node_modules"
        found.mkdir()
        for package in (ROOT / "examples/node_modules").iterdir():
            if not package.name.startswith("."):
                found.joinpath(package.name).symlink_to(package)
        found.joinpath("vault-core").symlink_to(ROOT / "node")

    def shell(self, script: str, ends: int = 0) -> str:
        """Runs what somebody types, and says it."""
        print("$", script.strip().replace("\n", "\n$ "), flush=True)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.place,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == ends, f"{script}\nended with {done.returncode}, and not {ends}:\n{done.stdout}"
        return done.stdout

    def rotate(self, script: str) -> None:
        """Types a rotation; and where rows were written under the old key meanwhile, types it again, as it says."""
        for _ in range(5):
            try:
                self.shell(script)
                return
            except AssertionError as error:
                if "under a key that was replaced" not in str(error):
                    raise
            script = "vault rotate --yes"
        raise AssertionError("rows stay under the old key")

    def killed(self, script: str, after: float) -> None:
        """Runs a command, and kills it, and what it runs, at a moment of its work."""
        print("$", script, "  # kill -9", flush=True)
        with self.process("killed", ["bash", "-c", f"exec {script}"]) as process:
            time.sleep(after)
            os.killpg(process.pid, signal.SIGKILL)

    @contextmanager
    def process(self, name: str, command: list[str], **variables: str) -> Iterator[subprocess.Popen[bytes]]:
        log = self.place / f"{name}.log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                command,
                cwd=self.place,
                env={**self.environment, **variables},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            yield process
        finally:
            for number in (signal.SIGTERM, signal.SIGKILL):
                if process.poll() is None:
                    os.killpg(process.pid, number)
                    try:
                        process.wait(20)
                    except subprocess.TimeoutExpired:
                        continue
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def start(self, name: str, command: list[str], **variables: str) -> Service:
        """Starts a program that stays until the day ends, or until it is stopped."""
        stack = ExitStack()
        self.stack.enter_context(stack)
        return Service(name, stack, stack.enter_context(self.process(name, command, **variables)), self.place / f"{name}.log")

    def postgres(self) -> int:
        """Starts a PostgreSQL with the role and database `app`, whose password is `first`. Returns its port."""
        programs = Path(sorted(glob.glob("/usr/lib/postgresql/*/bin"))[-1])
        data, port = Path(tempfile.mkdtemp(prefix="vault-postgres-")), free_port()
        self.stack.callback(shutil.rmtree, data, ignore_errors=True)
        user = {}
        if os.getuid() == 0:
            # It refuses to run as root.
            account = pwd.getpwnam("postgres")
            os.chown(data, account.pw_uid, account.pw_gid)
            user = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        cluster = data / "cluster"
        initdb = [programs / "initdb", "-D", cluster, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"]
        subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, cwd=data, **user)
        (cluster / "pg_hba.conf").write_text("local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n")
        options = [f"-p{port}", "-k", str(data), "-cfsync=off", "-clisten_addresses=127.0.0.1"]
        with (data / "log").open("wb") as log:
            server = subprocess.Popen([programs / "postgres", "-D", cluster, *options], cwd=data, stdout=log, stderr=log, **user)

        def stop() -> None:
            server.send_signal(signal.SIGQUIT)
            server.wait(30)

        self.stack.callback(stop)
        self.psql = [str(programs / "psql"), "-h", str(data), "-p", str(port), "-U", "postgres", "-qAtX", "-v", "ON_ERROR_STOP=1"]
        until(lambda: subprocess.run([*self.psql, "-c", "SELECT 1"], capture_output=True, check=False).returncode == 0)
        self.sql("CREATE ROLE app LOGIN PASSWORD 'first'")
        self.sql("CREATE DATABASE app OWNER app")
        return port

    def sql(self, statement: str, database: str = "postgres") -> str:
        done = subprocess.run([*self.psql, "-d", database, "-c", statement], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def use(self, name: str, action: Callable[[], object]) -> Users:
        """Somebody who uses the application from now on, and counts what fails."""
        users = Users(name, action)
        self.users.append(users)
        return users


class Service:
    def __init__(self, name: str, stack: ExitStack, process: subprocess.Popen[bytes], log: Path) -> None:
        self.name, self.stack, self.process, self.log = name, stack, process, log

    def ready(self, url: str) -> Service:
        def answers() -> bool:
            assert self.process.poll() is None, f"{self.name} ended:\n{self.said()}"
            try:
                return request(url)[0] < 500
            except OSError:
                return False

        try:
            until(answers)
        except AssertionError:
            print(self.said())
            raise
        return self

    def said(self) -> str:
        return self.log.read_text(errors="replace")[-6000:]

    def stop(self) -> None:
        self.stack.close()


class Users(threading.Thread):
    def __init__(self, name: str, action: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self.action, self.asked, self.failed, self.ended = action, 0, list[str](), threading.Event()
        self.name = name
        self.start()

    def run(self) -> None:
        while not self.ended.is_set():
            self.asked += 1
            try:
                self.action()
            except Exception as error:  # noqa: BLE001, whatever it is, a request failed
                self.failed.append(f"{type(error).__name__}: {error}")
            self.ended.wait(0.02)

    def at_least(self, more: int) -> None:
        """Waits until so many more requests were made, so that each step of the day was met by some."""
        wanted = self.asked + more
        until(lambda: self.asked >= wanted)
        assert not self.failed, f"{self.name}: {len(self.failed)} of {self.asked} failed: {self.failed[:3]}"

    def stop(self) -> None:
        self.ended.set()
        self.join(PATIENCE)

    def sum_up(self) -> None:
        self.stop()
        assert not self.failed, f"{self.name}: {len(self.failed)} of {self.asked} failed: {self.failed[:3]}"
        print(f"{self.name}: {self.asked} requests, 0 failed", flush=True)


def request(
    url: str, body: Any = None, method: str | None = None, form: bool = False, **headers: str
) -> tuple[int, str, http.client.HTTPMessage]:
    """Status, text and headers of an answer, whatever it is."""
    data = None
    if body is not None:
        data = body.encode() if form else json.dumps(body).encode()
        headers["Content-Type"] = "application/x-www-form-urlencoded" if form else "application/json"
    asked = urllib.request.Request(url, data, {name.replace("_", "-"): value for name, value in headers.items()}, method=method)
    try:
        with urllib.request.urlopen(asked, timeout=30) as answer:
            return answer.status, answer.read().decode(), answer.headers
    except urllib.error.HTTPError as answer:
        return answer.code, answer.read().decode(), answer.headers


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def blocks(heading: str, language: str) -> list[str]:
    """The blocks of a section of docs/INTEGRATION.md."""
    section = (ROOT / "docs/INTEGRATION.md").read_text().split(f"\n### {heading}\n", 1)[1].split("\n### ", 1)[0]
    return re.findall(rf"^```{language}\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
