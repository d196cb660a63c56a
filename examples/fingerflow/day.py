"""FingerFlow's day: from the guide's .env to the vault, people who stay signed in while SECRET_KEY changes three times,
TOTP secrets that are sealed while they log in, a new password of PostgreSQL, and back to .env.
"""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path

import pyotp

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from common import Day, Service, blocks, free_port, request


def main() -> None:
    with Day("fingerflow") as day:
        port = day.postgres()
        take, totp, secret_key, password, back = blocks("From FingerFlow", "sh")
        day.sql("CREATE ROLE fingerflow LOGIN PASSWORD 'p@ss/word of 2026'")
        day.sql("CREATE DATABASE fingerflow OWNER fingerflow")
        day.sql(
            "SET ROLE fingerflow; CREATE TABLE users (id serial PRIMARY KEY, email text, two_factor_secret varchar(32));"
            "INSERT INTO users (email, two_factor_secret) VALUES ('before@example.org', 'JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP')",
            "fingerflow",
        )
        day.place.joinpath("env.before").rename(day.place / ".env")
        day.shell(take.replace("postgres:5432", f"127.0.0.1:{port}"))
        day.environment.update(PGHOST=day.psql[2], PGPORT=str(port), PGUSER="postgres", PGDATABASE="fingerflow")
        assert not day.place.joinpath(".env").exists()

        def start() -> tuple[Service, str]:
            at = free_port()
            command = ["uvicorn", "app:app", "--host", "127.0.0.1", "--port", str(at), "--workers", "2"]
            service = day.start("backend", command, VAULT_CORE_CONFIG=str(day.place / "vault.toml"))
            return service.ready(f"http://127.0.0.1:{at}/health"), f"http://127.0.0.1:{at}"

        service, url = start()
        numbers = itertools.count()

        def log_in(email: str, secret: str) -> str:
            status, answer, _ = request(f"{url}/auth/login", {"email": email, "code": pyotp.TOTP(secret).now()})
            assert status == 200, answer
            token: str = json.loads(answer)["access_token"]
            return token

        def me(token: str) -> int:
            return request(f"{url}/me", Authorization=f"Bearer {token}")[0]

        def use() -> None:
            email = f"{next(numbers)}@example.org"
            status, answer, _ = request(f"{url}/auth/register", {"email": email, "code": ""})
            assert status == 200, answer
            assert me(log_in(email, json.loads(answer)["secret"])) == 200
            assert me(log_in("before@example.org", "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP")) == 200
            # Whoever signed in before the last change of the secret is signed in.
            assert me(tokens[-1]) == 200

        tokens = [log_in("before@example.org", "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP")]
        # A column of 32 characters takes no token.
        day.sql("ALTER TABLE users ALTER two_factor_secret TYPE text", "fingerflow")
        people = day.use("people", use)
        people.at_least(3)
        day.shell(totp)
        people.at_least(3)
        assert day.sql("SELECT DISTINCT left(two_factor_secret, 4) FROM users", "fingerflow") == "vs1."
        for number in range(3):
            day.shell(secret_key)
            people.at_least(3)
            day.killed("vault rotate --new-key --without-backup --yes", 0.1 + 0.4 * number)
            day.rotate("vault rotate --yes")
            people.at_least(3)
            # Six seconds are longer than any process takes to see the new secret.
            day.shell("sleep 6")
            tokens.append(log_in("before@example.org", "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"))
        assert me(tokens[0]) == 401, "the version before the last is taken"
        people.at_least(3)
        day.shell(password)
        people.at_least(3)
        before, (service, url) = service, start()
        people.at_least(3)
        before.stop()
        people.at_least(3)
        people.sum_up()
        service.stop()
        assert day.sql("SELECT count(*) FROM pg_stat_activity WHERE usename = 'fingerflow'") == "0"
        day.shell(back)
        kept = day.place.joinpath(".env").read_text()
        assert "GOCSPX-example-of-2026" in kept and "pm$ss#w0rd" in kept
        print("FingerFlow's day is over", flush=True)


if __name__ == "__main__":
    main()
