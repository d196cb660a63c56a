"""Builds libvault, and the extension module that contains it: one file with no other library."""

import os
import subprocess
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

PROJECT = Path(__file__).resolve().parent.parent


class BuildWithCargo(build_ext):
    def run(self) -> None:
        cargo = ["cargo", "build", "-p", "vault-ffi", "--release", "--locked"]
        # CFLAGS are for the extension: the library's own C code would be built again with them.
        environment = {name: value for name, value in os.environ.items() if name != "CFLAGS"}
        options = os.environ.get("CARGO_BUILD_FLAGS", "").split()
        subprocess.run([*cargo, *options], cwd=PROJECT, env=environment, check=True)
        super().run()


target = PROJECT / os.environ.get("CARGO_TARGET_DIR", "target")
native = Extension(
    "vault_core._native",
    [
        *(f"native/{name}.c" for name in ("batch", "context", "handle", "module", "secret", "value")),
        "../vault-ffi/native/parts.c",
    ],
    depends=["native/native.h", "../vault-ffi/native/parts.h", "../vault-ffi/include/vault.h"],
    include_dirs=[str(PROJECT / "vault-ffi" / name) for name in ("include", "native")],
    extra_objects=[str(target / "release/libvault_ffi.a")],
    extra_compile_args=["-std=c11", "-O2", "-g0", "-Wall", "-Wextra", "-Wno-missing-field-initializers", "-fvisibility=hidden"],
    # Only the module's own entry is visible: another copy of the library in the process does not meet this one.
    extra_link_args=["-Wl,--exclude-libs,ALL", "-Wl,--gc-sections", "-Wl,-s", "-lpthread", "-ldl", "-lm"],
    py_limited_api=True,
)

between = target / "python-build"
between.mkdir(parents=True, exist_ok=True)

setup(
    ext_modules=[native],
    cmdclass={"build_ext": BuildWithCargo},
    options={
        "bdist_wheel": {"py_limited_api": "cp311"},
        "build": {"build_base": str(between)},
        "egg_info": {"egg_base": str(between)},
    },
)
