"""Raqeem's day: a real server with Better Auth, Drizzle and PostgreSQL, in two releases, whose people stay signed in
while its secret and the password of its database change three times, with files as in Swarm.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from common import Day, Service, blocks, free_port, request

SCHEMA = """
CREATE TABLE users (id text PRIMARY KEY, name text NOT NULL, email text NOT NULL UNIQUE, email_verified boolean NOT NULL,
  image text, created_at timestamp NOT NULL, updated_at timestamp NOT NULL);
CREATE TABLE sessions (id text PRIMARY KEY, expires_at timestamp NOT NULL, token text NOT NULL UNIQUE, ip_address text,
  user_agent text, user_id text NOT NULL, created_at timestamp NOT NULL, updated_at timestamp NOT NULL);
CREATE TABLE account (id text PRIMARY KEY, account_id text NOT NULL, provider_id text NOT NULL, user_id text NOT NULL,
  access_token text, refresh_token text, id_token text, access_token_expires_at timestamp, refresh_token_expires_at timestamp,
  scope text, password text, created_at timestamp NOT NULL, updated_at timestamp NOT NULL);
CREATE TABLE verifications (id text PRIMARY KEY, identifier text NOT NULL, value text NOT NULL, expires_at timestamp NOT NULL,
  created_at timestamp NOT NULL, updated_at timestamp NOT NULL);
"""


def main() -> None:
    with Day("raqeem") as day:
        day.node_modules()
        port = day.postgres()
        declared = (day.example / "vault.toml").read_text()
        assert declared == blocks("From Raqeem", "toml")[0], "the page and the example differ"
        day.place.joinpath("vault.toml").unlink()
        take, rotate, password, versions, back = blocks("From Raqeem", "sh")
        day.sql("CREATE ROLE raqeem_prod LOGIN PASSWORD 'first-password-of-2026'")
        day.sql("CREATE DATABASE raqeem OWNER raqeem_prod")
        day.sql(f"SET ROLE raqeem_prod; {SCHEMA}", "raqeem")
        secret = day.shell("openssl rand -base64 32").strip()
        day.place.joinpath("secrets-production.env").write_text(
            f"POSTGRES_USER=raqeem_prod\nPOSTGRES_PASSWORD=first-password-of-2026\nBETTER_AUTH_SECRET={secret}\n"
        )
        day.shell(take)
        day.place.joinpath("vault.toml").write_text(declared.replace("postgres:5432", f"127.0.0.1:{port}"))
        day.environment.update(PGHOST=day.psql[2], PGPORT=str(port), PGUSER="postgres", PGDATABASE="raqeem")
        # What a task in Swarm has: files, and a vault.toml without a store.
        day.place.joinpath("task.toml").write_text("version = 1\n[secrets.BETTER_AUTH_SECRET]\n[secrets.BETTER_AUTH_SECRET_PREVIOUS]\nrequired = false\n")

        def start(release: str, grace: str = "3600") -> tuple[Service, str]:
            at = free_port()
            task = {"PORT": str(at), "BETTER_AUTH": release, "NODE_ENV": "production"}
            if grace:
                task["GRACE"] = grace
            names = ["DATABASE_URL", "BETTER_AUTH_SECRET"]
            if "BETTER_AUTH_SECRET_PREVIOUS" in day.shell("vault list"):
                names.append("BETTER_AUTH_SECRET_PREVIOUS")
            only = [part for name in names for part in ("--only", name)]
            # What the task loads is not what delivers.
            command = ["vault", "--config", "vault.toml", "run", "--files", *only, "--", "node", "server.js"]
            service = day.start("server", command, VAULT_CORE_CONFIG=str(day.place / "task.toml"), **task)
            url = f"http://127.0.0.1:{at}"
            return service.ready(f"{url}/health"), url

        def sign(url: str, what: str, email: str) -> str:
            body = {"email": email, "password": "correct horse", "name": "n"}
            status, answer, headers = request(f"{url}/api/auth/{what}/email", body, Origin=url)
            assert status == 200, answer
            cookie = next(each for each in headers.get_all("Set-Cookie") or [] if "session_token" in each)
            return cookie.split(";")[0]

        def me(url: str, cookie: str) -> tuple[str | None, str | None]:
            """Whose session it is, and the cookie that the browser gets for it."""
            status, answer, headers = request(f"{url}/me", Cookie=cookie)
            assert status in (200, 401), answer
            new = headers.get("Set-Cookie")
            return json.loads(answer).get("email"), new and new.split(";")[0]

        for release in ("better-auth-1.3", "better-auth"):
            print(f"-- {release}", flush=True)
            server, url = start(release)
            email = f"somebody@{release}.example"
            cookies = [sign(url, "sign-up", email)]
            server.stop()
            for _ in range(3):
                day.shell(rotate)
                server, url = start(release)
                found, new = me(url, cookies[-1])
                assert found == email and new is not None and new != cookies[-1], "the session did not survive"
                found, again = me(url, new)
                assert found == email and again is None, "what was signed anew is signed anew again"
                assert me(url, new[:-8] + "AAAAAAAA")[0] is None, "a forged cookie was taken"
                if len(cookies) > 1:
                    assert me(url, cookies[-2])[0] is None, "the version before the last was taken"
                cookies.append(new)
                server.stop()
            # After a leak there is no grace.
            day.shell(rotate)
            for grace in ("0", ""):
                server, url = start(release, grace)
                assert me(url, cookies[-1])[0] is None, "a leaked secret signs"
                sign(url, "sign-in", email)
                server.stop()

        print("-- a new password, while requests are made", flush=True)
        server, url = start("better-auth")
        cookie = sign(url, "sign-in", "somebody@better-auth.example")

        def use() -> None:
            assert me(url, cookie)[0] is not None

        people = day.use("people", use)
        people.at_least(10)
        day.shell(password)
        people.at_least(10)
        before, (after, url) = server, start("better-auth")
        people.at_least(10)
        before.stop()
        people.at_least(10)
        people.sum_up()
        assert day.sql("SELECT DISTINCT usename FROM pg_stat_activity WHERE datname = 'raqeem' AND application_name = ''") == "raqeem_prod_b"
        after.stop()

        print("-- names for docker stack deploy", flush=True)
        stand_in = day.place / "bin/docker"
        stand_in.parent.mkdir()
        listed = [f"raqeem_production_{name}_v{version}" for name in ("database_url", "better_auth_secret", "better_auth_secret_previous") for version in (1, 9, 10)]
        stand_in.write_text("#!/bin/sh\nprintf '%s\\n' " + " ".join([*listed, "raqeem_staging_database_url_v11"]) + "\n")
        stand_in.chmod(0o755)
        day.environment["PATH"] = f"{stand_in.parent}:{day.environment['PATH']}"
        day.shell(versions.split("docker stack deploy")[0])
        got = dict(line.split("=") for line in day.place.joinpath("versions.env").read_text().splitlines())
        assert got == {"DATABASE_URL_V": "10", "BETTER_AUTH_SECRET_V": "10", "BETTER_AUTH_SECRET_PREVIOUS_V": "10"}, got

        day.shell(back)
        kept = day.place.joinpath("secrets/better_auth_secret").read_text()
        assert len(kept.strip()) == 44 and os.stat(day.place / "secrets/better_auth_secret").st_mode & 0o077 == 0
        print("Raqeem's day is over", flush=True)


if __name__ == "__main__":
    main()
