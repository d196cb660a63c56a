"""Flowfile's day: the released application, core and worker, used through its HTTP API while its secrets move
to tokens, get three new keys, each with a rotation that is killed, and go back.
"""

from __future__ import annotations

import http.server
import json
import secrets
import sqlite3
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from common import Day, Service, blocks, free_port, request, until


class Webhook(http.server.BaseHTTPRequestHandler):
    paths: list[str] = []

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.paths.append(self.path)
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *given: object) -> None:
        pass


class Flowfile:
    def __init__(self, day: Day) -> None:
        self.day = day
        self.core_port, self.worker_port = free_port(), free_port()
        self.core = f"http://127.0.0.1:{self.core_port}"
        self.worker = f"http://127.0.0.1:{self.worker_port}"
        self.internal = secrets.token_hex(16)
        self.running: list[Service] = []
        self.headers: dict[str, str] = {}
        self.read = 0

    def start(self, launcher: list[str]) -> None:
        """`launcher`: of the package's, or nothing for Flowfile alone."""
        place = self.day.place
        storage = str(place / "storage")
        variables = {
            "FLOWFILE_MODE": "docker",
            "FLOWFILE_STORAGE_DIR": storage,
            "FLOWFILE_USER_DATA_DIR": storage,
            "SECURE_STORAGE_PATH": storage,
            "FLOWFILE_INTERNAL_TOKEN": self.internal,
            "FLOWFILE_ADMIN_USER": "admin",
            "FLOWFILE_ADMIN_PASSWORD": "Correct-horse-1",
            "FLOWFILE_NOTIFY_ALLOW_PRIVATE_HOSTS": "1",
            "JWT_SECRET_KEY": "a" * 64,
            "FLOWFILE_TELEMETRY_ENABLED": "0",
            "DO_NOT_TRACK": "1",
            "CORE_HOST": "127.0.0.1",
            "CORE_PORT": str(self.core_port),
            "WORKER_HOST": "127.0.0.1",
            "FLOWFILE_WORKER_PORT": str(self.worker_port),
            "VAULT_CORE_CONFIG": str(place / "vault.toml"),
        }
        delivered = ["vault", "run", "--only", "FLOWFILE_MASTER_KEY", "--", "python"]
        for name, module, options in (
            ("worker", "flowfile_worker", ["--host", "127.0.0.1", "--port", str(self.worker_port), "--core-port", str(self.core_port)]),
            ("core", "flowfile_core.main", ["--host", "127.0.0.1", "--port", str(self.core_port), "--worker-port", str(self.worker_port)]),
        ):
            what = ["-m", module] if not launcher else [*launcher[:2], name, *launcher[2:]]
            self.running.append(self.day.start(name, [*delivered, *what, *options], **variables))
        self.running[0].ready(f"{self.worker}/docs")
        self.running[1].ready(f"{self.core}/health/status")
        status, answer, _ = request(f"{self.core}/auth/token", "username=admin&password=Correct-horse-1", form=True)
        assert status == 200, (answer, self.running[1].said())
        self.headers = {"Authorization": f"Bearer {json.loads(answer)['access_token']}"}

    def stop(self) -> None:
        for service in self.running:
            service.stop()
        self.running.clear()

    def ask(self, path: str, body: object = None, method: str | None = None) -> str:
        status, answer, _ = request(f"{self.core}{path}", body, method, **self.headers)
        assert status < 300, f"{path}: {status} {answer}"
        return answer


def main() -> None:
    with Day("flowfile") as day:
        port = day.postgres()
        hook = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Webhook)
        threading.Thread(target=hook.serve_forever, daemon=True).start()
        day.stack.callback(hook.shutdown)
        assert (day.example / "vault.toml").read_text() == blocks("From Flowfile", "toml")[0], "the page and the example differ"
        move, rotate, back = blocks("From Flowfile", "sh")

        day.shell("mkdir -p keys storage/database\nopenssl rand -base64 32 >keys/flowfile_master_key_1\nvault key generate --out keys/vault_kek_1")
        app = Flowfile(day)
        app.start([])
        where = {"database_type": "postgresql", "username": "app", "host": "127.0.0.1", "port": port, "database": "app"}
        serial = iter(range(1, 1_000_000))

        def store() -> None:
            """Somebody stores a secret, and Flowfile logs in to PostgreSQL with it."""
            name = f"password_{next(serial)}"
            app.ask("/secrets/secrets", {"name": name, "value": "first"})
            log_in(name)

        def log_in(name: str) -> None:
            inline = {"connection_mode": "inline", "database_connection": {**where, "password_ref": name}}
            app.ask("/validate_db_settings", {**inline, "query_mode": "query", "query": "SELECT 1"})

        def use() -> None:
            """What was stored before everything is used: a login that is stored, and a webhook."""
            log_in("password_0")
            reference = {"connection_mode": "reference", "database_connection_name": "stored"}
            assert "public" in app.ask("/db_schemas", reference)
            called = len(Webhook.paths)
            answer = json.loads(app.ask(f"/notifications/channels/{channel}/test", {}, "POST"))
            assert answer["ok"], answer
            assert len(Webhook.paths) > called and Webhook.paths[-1] == "/hook"

        def work() -> None:
            """A flow reads from PostgreSQL: core hands the sealed password to the worker, whose child logs in."""
            flow = int(app.ask("/editor/create_flow/?name=day&register_in_catalog=false&persist=false", {}, "POST"))
            app.ask(f"/editor/add_node/?flow_id={flow}&node_id=1&node_type=database_reader", {}, "POST")
            reference = {"connection_mode": "reference", "database_connection_name": "stored"}
            settings = {**reference, "query_mode": "query", "query": "SELECT 41 + 1 AS answer"}
            app.ask("/update_settings/?node_type=database_reader", {"flow_id": flow, "node_id": 1, "database_settings": settings})
            app.ask(f"/flow/run/?flow_id={flow}", {}, "POST")
            found: dict[str, object] = {}

            def done() -> bool:
                found.update(json.loads(app.ask(f"/flow/run_status/?flow_id={flow}")))
                return found["end_time"] is not None

            until(done)
            assert found["success"] is True, (found, [service.said() for service in app.running])
            asked = (app.day.place / "worker.log").read_text(errors="replace").count("/store_database_read_result")
            assert asked > app.read, "the worker was not asked"
            app.read = asked

        app.ask("/secrets/secrets", {"name": "password_0", "value": "first"})
        app.ask("/db_connection_lib", {"connection_name": "stored", **where, "password": "first"})
        made = app.ask("/notifications/channels", {"name": "hook", "channel_type": "generic", "webhook_url": f"http://127.0.0.1:{hook.server_port}/hook"})
        channel = json.loads(made)["id"]
        use()
        work()
        app.stop()

        print("-- with the launcher, which writes as Flowfile until every process reads tokens", flush=True)
        launcher = ["-m", "vault_core.applications.flowfile"]
        app.start([*launcher, "--writes", "flowfile-v1"])
        use()
        work()
        app.stop()
        app.start(launcher)
        people = [day.use(name, action) for name, action in (("stores", store), ("uses", use))]
        people[0].at_least(5)
        day.shell(move)
        work()
        for each in people:
            each.at_least(5)
        assert sealed(day) == {"vs1."}, sealed(day)

        for number in range(3):
            day.killed("vault rotate --new-key --without-backup --yes", 0.1 + 0.4 * number)
            day.rotate("vault rotate --yes")
            day.rotate(rotate)
            work()
            for each in people:
                each.at_least(5)
        kids = {value[4:21] for value in values(day)}
        assert len(kids) == 1, kids
        for each in people:
            each.sum_up()
        app.stop()

        print("-- and back to Flowfile alone", flush=True)
        app.start([*launcher, "--writes", "flowfile-v1"])
        use()
        day.shell(back)
        use()
        work()
        app.stop()
        assert sealed(day) == {"$ffs"}, sealed(day)
        app.start([])
        use()
        work()
        for number in range(1, next(serial), 7):
            log_in(f"password_{number}")
        app.stop()
        print("Flowfile's day is over: no value was lost", flush=True)


def values(day: Day) -> list[str]:
    with sqlite3.connect(day.place / "storage/database/flowfile_catalog.db") as database:
        rows = database.execute("SELECT encrypted_value FROM secrets UNION ALL SELECT webhook_url_encrypted FROM notification_channels")
        return [value for (value,) in rows]


def sealed(day: Day) -> set[str]:
    return {value[:4] for value in values(day)}


if __name__ == "__main__":
    main()
