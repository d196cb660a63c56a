"""The face API's day: gunicorn with four workers and a Celery worker, which store and export while both columns are
sealed, get three new keys, each with a rotation that is killed, and go back.
"""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from common import Day, Service, blocks, free_port, request

SCHEMA = """
CREATE TABLE consent_records (id serial PRIMARY KEY, username text, ip_address_encrypted bytea);
CREATE TABLE audit_logs (id serial PRIMARY KEY, username text, metadata_encrypted bytea);
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN RAISE EXCEPTION 'UPDATE operations on audit_logs are prohibited'; END $$;
CREATE TRIGGER immutable BEFORE UPDATE ON audit_logs FOR EACH ROW EXECUTE FUNCTION refuse();
"""


def main() -> None:
    with Day("face") as day:
        port, at = day.postgres(), free_port()
        declared = (day.example / "vault.toml").read_text()
        assert declared == blocks("From the face-recognition API", "toml")[0], "the page and the example differ"
        day.place.joinpath("vault.toml").write_text(declared.replace("postgres:5432", f"127.0.0.1:{port}"))
        move, rotate, back = blocks("From the face-recognition API", "sh")
        day.sql("GRANT ALL ON SCHEMA public TO app", "app")
        day.sql(f"SET ROLE app; {SCHEMA}", "app")
        day.shell(
            "mkdir -p secrets keys queue results\n"
            "openssl rand -hex 32 >secrets/secret_key.txt\n"
            "openssl rand -hex 32 >secrets/db_encryption_key.txt\n"
            "printf first >secrets/db_password.txt\n"
            "openssl genrsa -out secrets/jwt_private_key.pem 2048 2>&1\n"
            "vault key generate --out keys/vault_kek_1"
        )
        given = {"DB_PORT": str(port), "VAULT_CORE_CONFIG": str(day.place / "vault.toml")}
        url = f"http://127.0.0.1:{at}"

        def start(**variables: str) -> list[Service]:
            gunicorn = ["./entry", "gunicorn", "--workers", "4", "--bind", f"127.0.0.1:{at}", "app:app"]
            celery = ["./entry", "celery", "-A", "app:tasks", "worker", "--concurrency", "2", "--loglevel", "WARNING"]
            running = [day.start("celery", celery, **given, **variables), day.start("gunicorn", gunicorn, **given, **variables)]
            running[1].ready(f"{url}/health")
            return running

        def stop(running: list[Service]) -> None:
            for service in running:
                service.stop()

        numbers = itertools.count()

        def grant(name: str) -> str:
            address = f"203.0.113.{next(numbers) % 250}"
            status, answer, _ = request(f"{url}/consent", {"username": name, "ip": address})
            assert status == 201, answer
            return address

        def exported(name: str) -> dict[str, list[object]]:
            status, answer, _ = request(f"{url}/export", {"username": name})
            assert status == 200, answer
            found: dict[str, list[object]] = json.loads(answer)
            return found

        def use() -> None:
            name = f"user_{next(numbers)}"
            address = grant(name)
            assert exported(name) == {"addresses": [address], "metadata": [{"ip": address}]}
            assert exported("alice") == alice

        def of_celery() -> None:
            script = "from app import exported; import json; print(json.dumps(exported.delay('alice').get(timeout=100)))"
            found = day.shell(f"FACE=before SECRET_KEY=x DB_PASSWORD=x DB_PORT={port} python -c \"{script}\"")
            assert json.loads(found.splitlines()[-1]) == alice, found

        print("-- the application alone: it cannot give out its own audit rows", flush=True)
        running = start(FACE="before")
        addresses = [grant("alice"), grant("alice")]
        assert exported("alice")["addresses"] == addresses
        stop(running)
        alice = {"addresses": addresses, "metadata": [{"ip": address} for address in addresses]}
        same = "openssl pkey -in secrets/jwt_private_key.pem -pubout | cmp - jwt/jwt_public.pem"
        day.shell(same)

        print("-- the package's names at the end of its module", flush=True)
        running = start(VAULT_CORE_WRITES="vs1")
        people = day.use("people", use)
        people.at_least(3)
        of_celery()
        day.shell(move)
        people.at_least(3)
        assert day.sql("SELECT DISTINCT left(encode(ip_address_encrypted, 'escape'), 4) FROM consent_records", "app") == "vs1."
        for number in range(3):
            day.killed("vault rotate --new-key --without-backup --yes", 0.1 + 0.4 * number)
            day.rotate("vault rotate --yes")
            day.rotate(rotate)
            people.at_least(3)
            of_celery()
        people.sum_up()
        stop(running)

        print("-- and back", flush=True)
        running = start(VAULT_CORE_WRITES="legacy")
        people = day.use("people on the way back", use)
        people.at_least(2)
        day.shell(back)
        people.at_least(2)
        people.sum_up()
        stop(running)
        running = start(FACE="before")
        assert exported("alice")["addresses"] == addresses
        rows = day.sql("SELECT DISTINCT left(encode(ip_address_encrypted, 'escape'), 4) FROM consent_records", "app")
        assert rows == "gAAA", rows
        grant("alice")
        stop(running)
        print("the face API's day is over", flush=True)


if __name__ == "__main__":
    main()
