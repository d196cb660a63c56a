"""New keys for the values of a table in two ways in which people write such a script.

    rotate.py URL rows|pages COUNT

Both use `MultiFernet.rotate`: one writes row by row, one pages of 500 with one statement each.
Prints rows in a second.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import psycopg2  # type: ignore[import-untyped]
from cryptography.fernet import Fernet, MultiFernet
from psycopg2.extras import execute_values  # type: ignore[import-untyped]

PAGE = 500


def main(url: str, manner: str, count: int) -> None:
    old, new = Fernet(Fernet.generate_key()), Fernet(Fernet.generate_key())
    connection: Any = psycopg2.connect(url)
    with connection, connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS secrets; CREATE TABLE secrets (id bigint PRIMARY KEY, v text)")
        values = ((number, old.encrypt(f"a secret of row {number}, as long as they are".encode()).decode()) for number in range(count))
        execute_values(cursor, "INSERT INTO secrets VALUES %s", values, page_size=PAGE)
    started = time.perf_counter()
    {"rows": by_row, "pages": by_page}[manner](connection, MultiFernet([new, old]))
    print(f"MultiFernet by {manner}: {count / (time.perf_counter() - started):.0f} rows/s")
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT v FROM secrets")
        assert all(new.decrypt(value.encode()) for (value,) in cursor)


def by_row(connection: Any, fernet: MultiFernet) -> None:
    with connection, connection.cursor() as reader, connection.cursor() as writer:
        reader.execute("SELECT id, v FROM secrets")
        for number, value in reader:
            writer.execute("UPDATE secrets SET v = %s WHERE id = %s", (fernet.rotate(value.encode()).decode(), number))


def by_page(connection: Any, fernet: MultiFernet) -> None:
    after = -1
    while True:
        with connection, connection.cursor() as cursor:
            cursor.execute("SELECT id, v FROM secrets WHERE id > %s ORDER BY id LIMIT %s FOR UPDATE", (after, PAGE))
            page = cursor.fetchall()
            if not page:
                return
            values = [(number, fernet.rotate(value.encode()).decode()) for number, value in page]
            update = "UPDATE secrets SET v = new.v FROM (VALUES %s) AS new (id, v) WHERE secrets.id = new.id"
            execute_values(cursor, update, values, page_size=PAGE)
            after = page[-1][0]


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
