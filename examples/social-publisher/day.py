"""social-publisher's day: tokens in all their places and old forms, used while they are sealed, get three new keys,
each with a rotation that is killed, and go back to the application's own module.
"""

from __future__ import annotations

import http.server
import itertools
import json
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from common import Day, Service, blocks, free_port, request

BOT = "123456789:AAExampleExampleExampleExampleExamp"


class Provider(http.server.BaseHTTPRequestHandler):
    """Facebook, Twitter and Telegram: takes the right tokens alone, and keeps what it was sent."""

    refused: list[str] = []
    taken = 0

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
        kind, *rest = self.path.split("/")[1:]
        if kind.startswith("bot"):
            right = kind == f"bot{BOT}"
        else:
            wanted = {"publish": "access", "refresh": "refresh"}[kind]
            right = body["token"] == f"{wanted}-{rest[0]}-{rest[1]}"
            right = right and (kind != "publish" or rest[0] != "twitter" or body["secret"] == f"secret-twitter-{rest[1]}")
        Provider.taken += right
        if not right:
            self.refused.append(self.path)
        self.send_response(200 if right else 401)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *given: object) -> None:
        pass


def main() -> None:
    with Day("social-publisher") as day:
        day.node_modules()
        port, at = day.postgres(), free_port()
        provider = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Provider)
        threading.Thread(target=provider.serve_forever, daemon=True).start()
        day.stack.callback(provider.shutdown)
        declared = (day.example / "vault.toml").read_text()
        assert declared == blocks("From social-publisher", "toml")[0], "the page and the example differ"
        day.place.joinpath("vault.toml").write_text(declared.replace(":5432/", f":{port}/"))
        move, rotate, back = blocks("From social-publisher", "sh")
        day.shell(
            "mkdir keys secrets\n"
            "openssl rand -base64 32 >keys/encryption_key_1\n"
            "printf first >secrets/db_password\n"
            "vault key generate --out keys/vault_kek_1"
        )
        day.sql(
            "CREATE TABLE connected_channels (id serial PRIMARY KEY, platform text, channel_id text, access_token text,"
            " refresh_token text, metadata jsonb);"
            "ALTER TABLE connected_channels OWNER TO app; GRANT CREATE ON DATABASE app TO app",
            "app",
        )

        def start(tokens: str, **variables: str) -> Service:
            given = {
                "PORT": str(at),
                "PROVIDER": f"http://127.0.0.1:{provider.server_port}",
                "TOKENS": tokens,
                "VAULT_CORE_CONFIG": str(day.place / "vault.toml"),
                **{"DB_HOST": "127.0.0.1", "DB_PORT": str(port), "DB_USER": "app", "DB_NAME": "app"},
            }
            command = "vault run --only ENCRYPTION_KEY --only DB_PASSWORD -- node app.js"
            return day.start("app", command.split(), **given, **variables).ready(f"http://127.0.0.1:{at}/health")

        def ask(path: str, body: object = None) -> dict[str, int]:
            status, answer, _ = request(f"http://127.0.0.1:{at}{path}", body if body is not None else {}, "POST")
            assert status < 300, (path, status, answer[:300])
            found: dict[str, int] = json.loads(answer)
            return found

        numbers = itertools.count()

        def connect() -> list[int]:
            number = next(numbers)
            return [ask(f"/connect/{platform}/{number}")["id"] for platform in ("tiktok", "linkedin", "twitter")]

        print("-- the application alone, as years left it", flush=True)
        app = start("./before.js")
        channels = connect() + connect()
        channels.append(ask("/telegram", {"token": BOT})["id"])
        ask("/publish", {"channels": channels})
        hexed = day.shell("ENCRYPTION_KEY=$(vault get ENCRYPTION_KEY) node -p 'require(\"./before.js\").inHex(\"access-tiktok-hex\")'").strip()
        day.sql(f"INSERT INTO connected_channels (platform, channel_id, access_token, metadata) VALUES ('tiktok', 'hex', '{hexed}', '{{}}')", "app")
        channels.append(int(day.sql("SELECT max(id) FROM connected_channels", "app")))
        app.stop()

        print("-- the package in the place of its module: every form is read, and Telegram's lines are changed", flush=True)
        module = "vault-core/applications/social-publisher"
        app = start(module)
        ask("/publish", {"channels": channels})
        app.stop()
        app = start(module, TELEGRAM="sealed", VAULT_CORE_WRITES="vs1")

        def use() -> None:
            made = connect()
            ask("/publish", {"channels": [*channels, *made]})
            for each in (*channels[:3], made[2]):
                ask(f"/refresh/{each}")

        people = day.use("people", use)
        people.at_least(3)
        day.shell(move)
        people.at_least(3)
        forms = "SELECT DISTINCT left(v, 4) FROM connected_channels, LATERAL (VALUES (access_token), (refresh_token), (metadata ->> 'refresh_token'), (metadata ->> 'access_secret')) AS of (v) WHERE v IS NOT NULL"
        assert day.sql(forms, "app") == "vs1."

        for number in range(3):
            day.killed("vault rotate --new-key --without-backup --yes", 0.1 + 0.4 * number)
            day.rotate("vault rotate --yes")
            day.rotate(rotate)
            people.at_least(3)
        # Stored by a route that was forgotten: it is read, and does not end a rotation.
        day.sql(f"INSERT INTO connected_channels (platform, access_token, metadata) VALUES ('telegram', '{BOT}', '{{}}')", "app")
        plain = int(day.sql("SELECT max(id) FROM connected_channels", "app"))
        day.rotate(rotate)
        ask("/publish", {"channels": [plain]})
        people.sum_up()
        app.stop()

        print("-- and back to the application's own module", flush=True)
        app = start(module, TELEGRAM="sealed", VAULT_CORE_WRITES="social-v1")
        people = day.use("people on the way back", use)
        people.at_least(2)
        day.shell(back)
        people.at_least(2)
        people.sum_up()
        app.stop()
        assert day.sql(forms, "app") == "v1:" or set(day.sql(forms, "app").split()) <= {f"v1:{digit}" for digit in "0123456789abcdef"}
        app = start("./before.js", TELEGRAM="sealed")
        every = [int(each) for each in day.sql("SELECT id FROM connected_channels", "app").split()]
        day.shell("vault rotate verify --keyring social-publisher")
        # Its own module derives the key for each token anew: a part of them, some at a time.
        for at_once in range(0, len(every), 60):
            ask("/publish", {"channels": every[at_once : at_once + 10]})
        for each in channels[:6]:
            ask(f"/refresh/{each}")
        assert not Provider.refused, Provider.refused[:3]
        print(f"social-publisher's day is over: {len(every)} channels, {Provider.taken} requests to providers, none with a sealed token", flush=True)


if __name__ == "__main__":
    main()
