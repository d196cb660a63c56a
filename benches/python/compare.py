"""Seal and open from Python beside Fernet of `cryptography` and `asherah`, in one run.

    ci/python && target/python/bin/python benches/python/compare.py

Prints nanoseconds for each call, single and in a batch of 10,000, and the ratios; then what importing
costs in time and memory beside sqlite3, and the size of the wheel. Rounds of all subjects take turns, and the
figures are the best of them, because machines are noisy; a batch uses several processors where there are
some idle. `asherah` has a static master key, a metastore in memory, and sessions cached.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import asherah
from cryptography.fernet import Fernet
from vault_core import Context, Sealer

ROUNDS = 60
CALLS = 200
BATCH = 10_000
SIZES = (64, 1024)


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        key = Path(directory, "kek")
        key.write_text(os.urandom(32).hex())
        sealer = Sealer.from_key_file(key)
    configuration = {"ServiceName": "bench", "ProductID": "bench", "KMS": "static", "Metastore": "memory"}
    asherah.setup({**configuration, "StaticMasterKeyHex": os.urandom(32).hex(), "EnableSessionCaching": True})
    for size in SIZES:
        calls(sealer, os.urandom(size))
    asherah.shutdown()
    imports()
    sizes()


def calls(sealer: Sealer, secret: bytes) -> None:
    context = Context("user-secret", tenant="42", name="prod_db")
    token = sealer.seal(context, secret)
    fernet = Fernet(Fernet.generate_key())
    encrypted = fernet.encrypt(secret)
    record = asherah.encrypt_bytes("42", secret)
    secrets = [(context, secret)] * BATCH
    tokens = [(context, each) for each in sealer.seal_many(secrets)]
    subjects: dict[str, tuple[int, Callable[[], object]]] = {
        "vault seal": (1, lambda: sealer.seal(context, secret)),
        "vault seal, new context": (
            1,
            lambda: sealer.seal(Context("user-secret", tenant="42", name="prod_db"), secret),
        ),
        "vault seal, 10,000 calls": (BATCH, lambda: [sealer.seal(*item) for item in secrets]),
        "vault seal, batch": (BATCH, lambda: sealer.seal_many(secrets)),
        "Fernet encrypt": (1, lambda: fernet.encrypt(secret)),
        "asherah encrypt": (1, lambda: asherah.encrypt_bytes("42", secret)),
        "vault open": (1, lambda: sealer.open(context, token)),
        "vault open, 10,000 calls": (BATCH, lambda: [sealer.open(*item) for item in tokens]),
        "vault open, batch": (BATCH, lambda: sealer.open_many(tokens)),
        "Fernet decrypt": (1, lambda: fernet.decrypt(encrypted)),
        "asherah decrypt": (1, lambda: asherah.decrypt_bytes("42", record)),
    }
    times: dict[str, list[float]] = {name: [] for name in subjects}
    for _ in range(ROUNDS):
        for name, (items, call) in subjects.items():
            times[name].append(nanoseconds(call, 1 if items > 1 else CALLS) / items)
    best = {name: min(each) for name, each in times.items()}
    print(f"\n{len(secret)} bytes")
    for name, each in best.items():
        print(f"  {name:<26}{each:>10.0f} ns")
    for verb, theirs in (("seal", "encrypt"), ("open", "decrypt")):
        own = best[f"vault {verb}"]
        print(
            f"  {verb}: {best[f'Fernet {theirs}'] / own:.2f} times as fast as Fernet,"
            f" {best[f'asherah {theirs}'] / own:.2f} times as fast as asherah,"
            f" batch {best[f'vault {verb}, batch'] / best[f'vault {verb}, 10,000 calls']:.2f} of its calls one by one"
        )


def nanoseconds(call: Callable[[], object], count: int) -> float:
    start = time.perf_counter_ns()
    for _ in range(count):
        call()
    return (time.perf_counter_ns() - start) / count


def imports() -> None:
    program = """
import resource, sys, time
pages = lambda: int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() // 1024
before = pages()
start = time.perf_counter_ns()
import {}
print(time.perf_counter_ns() - start, pages() - before)
"""
    print("\nimport")
    for module in ("sqlite3", "vault_core"):
        runs = [
            [int(part) for part in subprocess.check_output([sys.executable, "-c", program.format(module)]).split()]
            for _ in range(ROUNDS // 2)
        ]
        print(f"  {module:<12}{min(run[0] for run in runs) / 1e6:>8.2f} ms{min(run[1] for run in runs):>8} KiB")


def sizes() -> None:
    wheels = Path(__file__).resolve().parents[2] / "target/wheels"
    for wheel in sorted(wheels.glob("vault_core-*.whl")):
        print(f"\n{wheel.name}: {wheel.stat().st_size:,} bytes")


main()
