"""What the package costs before it does anything."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import distribution, files
from pathlib import Path


def cost(module: str) -> int:
    """Nanoseconds of an import in a fresh process; the least of a few, as machines are noisy."""
    script = f"import time; start = time.perf_counter_ns(); import {module}; print(time.perf_counter_ns() - start)"
    return min(int(subprocess.check_output([sys.executable, "-c", script])) for _ in range(15))


def test_importing_costs_at_most_twice_sqlite3() -> None:
    assert cost("vault_core") <= 2 * cost("sqlite3")


def test_the_package_is_what_it_says() -> None:
    installed = [path for package in ("vault-core", "vault-core-testing") for path in files(package) or ()]
    assert not [path for path in installed if ".." in path.parts]
    assert not [*distribution("vault-core").entry_points, *distribution("vault-core-testing").entry_points]
    assert any(path.name == "py.typed" for path in installed)
    modules = [path for path in installed if path.suffix == ".so"]
    assert [path.name for path in modules] == ["_native.abi3.so"]


def test_the_extension_shows_one_symbol_and_needs_no_library_of_ours() -> None:
    (module,) = (Path(str(path.locate())) for path in files("vault-core") or () if path.suffix == ".so")
    symbols = subprocess.check_output(["nm", "--dynamic", "--defined-only", module], text=True).split("\n")
    assert [line.split()[-1] for line in symbols if line] == ["PyInit__native"]
    needed = subprocess.check_output(["readelf", "--dynamic", module], text=True)
    assert "libvault" not in needed
