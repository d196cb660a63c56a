"""The cases of tests/conformance that every language runs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from vault_core import Context, Error, LegacyKey, Sealer, Secret, Vault, _native, inspect

LIST = Path(__file__).resolve().parents[2] / "tests/conformance"


def cases() -> list[Any]:
    listed = json.loads(LIST.joinpath("cases.json").read_text())["cases"]
    return [pytest.param(case, id=case["name"]) for case in listed if "python" not in case.get("except", {})]


def test_there_are_cases() -> None:
    assert len(cases()) >= 560


@pytest.mark.parametrize("case", cases())
def test_case(case: dict[str, Any], tmp_path: Path) -> None:
    if "given" in case:
        shutil.copytree(LIST / "fixtures" / case["given"], tmp_path, dirs_exist_ok=True)
    write(case.get("files", {}), tmp_path)
    expected = resolve(case["expect"], tmp_path)
    try:
        came = run(case, tmp_path)
    except Error as error:
        came = failure(error)
    assert came.items() >= expected.items()
    assert came.get("error") == expected.get("error")


def run(case: dict[str, Any], directory: Path) -> dict[str, Any]:
    loaded = load(case.get("vault", {}), directory)
    write(case.get("changed", {}), directory)
    arguments = resolve(case.get("arguments", {}), directory)
    match case["call"], loaded:
        case "load", Sealer():
            return {"primary": loaded.primary().encode()}
        case "refresh", Sealer():
            loaded.refresh()
            return {"primary": loaded.primary().encode()}
        case "status", None:
            name, exit_code = _native.status(case["arguments"]["status"])
            return {"name": name.encode(), "exit_code": exit_code}
        case "inspect", None:
            return inspected(arguments["token"])
        case "seal", Sealer():
            return sealed(loaded, context(arguments), loaded.seal(context(arguments), arguments["secret"]))
        case "open", Sealer():
            return {"value": loaded.open(context(arguments), arguments["token"])}
        case "rewrap", Sealer():
            return {"value": loaded.rewrap(arguments["token"]).encode()}
        case "verify", Sealer():
            loaded.verify(arguments["token"])
            return {}
        case "seal_batch" | "open_batch", Sealer():
            return {"items": batch(case["call"], loaded, arguments["items"], resolve(case["expect"], directory))}
        case "secret", Vault():
            return resolved(loaded.secret(arguments["name"].decode()))
        case "optional_secret", Vault():
            found = loaded.optional_secret(arguments["name"].decode())
            return {"absent": True} if found is None else resolved(found)
        case "versions", Vault():
            return {"versions": [str(number).encode() for number, _ in loaded.versions(arguments["name"].decode())]}
        case ("secret" | "optional_secret" | "versions") as call, Sealer() | LegacyKey():
            # Python's sealers and legacy keys have no such method: what is beneath them refuses.
            getattr(handle(loaded), f"_{call}")(arguments["name"].decode())
        case "legacy_open", Sealer() | LegacyKey():
            return {"value": handle(loaded)._legacy_open(*legacy(arguments), arguments["value"])}
        case "legacy_seal", Sealer() | LegacyKey():
            value = handle(loaded)._legacy_seal(*legacy(arguments), arguments["secret"])
            return {"opens": handle(loaded)._legacy_open(*legacy(arguments), value)}
    pytest.fail("no such call")


def load(vault: dict[str, Any], directory: Path) -> Sealer | LegacyKey | None:
    options: dict[str, Any] = {option: vault[option] for option in ("limit", "padded") if option in vault}
    if "config" in vault:
        variables = {name: text(value, directory) for name, value in vault.get("variables", {}).items()}
        options |= {option: vault[option] for option in ("profile", "preset") if option in vault}
        return Vault.load(directory / vault["config"], variables=variables, mounts=directory / "mounts", **options)
    if "key_file" in vault:
        return Sealer.from_key_file(directory / vault["key_file"], **options)
    if "text_key_file" in vault:
        return LegacyKey.from_key_file(directory / vault["text_key_file"], vault["format"])
    return None


def handle(loaded: Sealer | LegacyKey) -> _native.Handle:
    return loaded._handle if isinstance(loaded, LegacyKey) else loaded


def context(arguments: Mapping[str, Any]) -> Context:
    given = arguments["context"]
    fields = {field: given[field].decode() for field in ("purpose", "tenant", "name") if field in given}
    extra = {pair["key"].decode(): pair["value"].decode() for pair in given.get("extra", [])}
    if given.get("unbound"):
        purpose, tenant, name = (fields.get(field) for field in ("purpose", "tenant", "name"))
        return _native.Context.__new__(Context, purpose, tenant, name, tuple(extra.items()) or None, True)
    return Context(**fields, extra=extra)


def legacy(arguments: Mapping[str, bytes]) -> tuple[str | None, str, str | None]:
    keyring, tenant = (arguments[name].decode() if name in arguments else None for name in ("keyring", "tenant"))
    return keyring, arguments["format"].decode(), tenant


def batch(call: str, sealer: Sealer, items: list[Any], expected: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Only what is expected of each, because lists are compared as they are."""
    came: list[dict[str, Any]] = []
    if call == "seal_batch":
        for item, token in zip(items, sealer.seal_each((context(item), item["secret"]) for item in items), strict=True):
            came.append(failure(token) if isinstance(token, Error) else sealed(sealer, context(item), token))
    else:
        for secret in sealer.open_each((context(item), item["token"]) for item in items):
            came.append(failure(secret) if isinstance(secret, Error) else {"value": secret})
    assert len(came) == len(expected["items"])
    return [
        {key: value for key, value in one.items() if key in wanted or key == "error"}
        for one, wanted in zip(came, expected["items"], strict=True)
    ]


def sealed(sealer: Sealer, context: Context, token: str) -> dict[str, Any]:
    return {**inspected(token), "opens": sealer.open(context, token)}


def inspected(token: str | bytes) -> dict[str, Any]:
    seen = inspect(token)
    return {
        "kid": seen.kid.encode(),
        "sealed_at": seen.sealed_at,
        "payload": seen.payload,
        "padded": seen.padded,
    }


def resolved(secret: Secret) -> dict[str, Any]:
    came = {"value": secret.expose_secret(), "source": secret.source_kind.encode(), "notes": len(secret.notes)}
    return came if secret.version is None else {**came, "version": secret.version}


def failure(error: Error) -> dict[str, Any]:
    return {"error": error.code.encode(), "public": error.public_code.encode()}


def write(files: Mapping[str, Any], directory: Path) -> None:
    for path, content in files.items():
        directory.joinpath(path).parent.mkdir(parents=True, exist_ok=True)
        directory.joinpath(path).write_bytes(resolve(content, directory))


def text(value: Any, directory: Path) -> str:
    resolved = resolve(value, directory)
    assert isinstance(resolved, bytes)
    return resolved.decode()


def resolve(value: Any, directory: Path) -> Any:
    """The same with every text in it as its bytes."""
    match value:
        case str():
            return value.replace("{dir}", str(directory)).encode()
        case {"hex": str(digits)}:
            return bytes.fromhex(digits)
        case {"repeat": str(repeated), "times": int(times)}:
            return repeated.encode() * times
        case dict():
            return {key: resolve(each, directory) for key, each in value.items()}
        case list():
            return [resolve(each, directory) for each in value]
    return value
