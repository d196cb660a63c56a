"""Seal, open and find, as Python spells them."""

from __future__ import annotations

import copy
import gc
import multiprocessing
import os
import pickle
import sys
import threading
import time
import traceback
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import vault_core
from conftest import CONTEXT
from vault_core import Context, LegacyKey, Sealer, Vault, _native, errors, inspect
from vault_core.text import decoded, encoded

MARKER = "s3cret-marker-9f1c"
# Published here, and good for nothing else.
KEY_TEXT = "q0y8Xv2mB7nWc5tZ1pLr9sKd3fGh6jAeUiOoPlMkNb8=\n"
# What the type checker would refuse.
untyped: Any = vault_core


@pytest.mark.parametrize("make", [bytes, bytearray, memoryview, lambda secret: memoryview(bytearray(secret))])
@pytest.mark.parametrize("size", [0, 1, 64, 1024, 100_000])
def test_seals_whatever_has_bytes(sealer: Sealer, make: Callable[[bytes], Any], size: int) -> None:
    secret = bytes(range(256)) * 400
    token = sealer.seal(CONTEXT, make(secret[:size]))
    assert sealer.open(CONTEXT, token) == secret[:size]
    assert inspect(token).payload == size


def test_reads_elements_of_other_types_as_bytes(sealer: Sealer) -> None:
    assert sealer.open(CONTEXT, sealer.seal(CONTEXT, array("H", [1, 2]))) == array("H", [1, 2]).tobytes()
    with pytest.raises(BufferError):
        sealer.seal(CONTEXT, memoryview(b"abcd")[::2])


@pytest.mark.parametrize("make", [str, str.encode, lambda token: bytearray(token.encode())])
def test_tokens_are_text_or_bytes(sealer: Sealer, make: Callable[[str], Any]) -> None:
    token = make(sealer.seal(CONTEXT, b"secret"))
    assert sealer.open(CONTEXT, token) == b"secret"
    assert sealer.rewrap(token).encode() == bytes(token if not isinstance(token, str) else token.encode())
    sealer.verify(token)
    assert inspect(token).kid == sealer.primary()


@pytest.mark.parametrize(
    "call",
    [
        lambda sealer, token: sealer.seal(CONTEXT, MARKER),
        lambda sealer, token: sealer.seal(CONTEXT, None),
        lambda sealer, token: sealer.seal(MARKER, b""),
        lambda sealer, token: sealer.seal(CONTEXT),
        lambda sealer, token: sealer.seal(CONTEXT, b"", b""),
        lambda sealer, token: sealer.seal(CONTEXT, secret=b""),
        lambda sealer, token: sealer.open(token, CONTEXT),
        lambda sealer, token: sealer.open(CONTEXT, 1),
        lambda sealer, token: sealer.rewrap(None),
        lambda sealer, token: sealer.verify(1.0),
        lambda sealer, token: sealer.seal_many([(CONTEXT, MARKER)]),
        lambda sealer, token: sealer.seal_many([CONTEXT]),
        lambda sealer, token: sealer.seal_many([(CONTEXT, b"", b"")]),
        lambda sealer, token: sealer.seal_many(7),
        lambda sealer, token: sealer.open_many([(None, token)]),
        lambda sealer, token: untyped.Context(1),
        lambda sealer, token: untyped.Context("p", "t"),
        lambda sealer, token: untyped.Context("p", colour="red"),
        lambda sealer, token: untyped.Context("p", extra={"k": 1}),
        lambda sealer, token: untyped.Sealer(),
        lambda sealer, token: untyped.Vault("vault.toml"),
        lambda sealer, token: untyped.Sealer.from_key_file("kek", colour="red"),
        lambda sealer, token: untyped.Vault.load("vault.toml", colour="red"),
        lambda sealer, token: untyped.Vault.load("vault.toml", variables={"X": 1}),
        lambda sealer, token: untyped.Vault.load(1),
        lambda sealer, token: untyped.Secret(),
    ],
)
def test_wrong_types_are_type_errors_without_values(sealer: Sealer, call: Callable[[Any, Any], object]) -> None:
    token = sealer.seal(CONTEXT, b"secret")
    with pytest.raises(TypeError) as raised:
        call(sealer, token)
    assert MARKER not in str(raised.value)
    assert token not in str(raised.value)


def test_a_failed_batch_lets_go_of_its_buffers(sealer: Sealer) -> None:
    buffer = bytearray(b"secret")
    with pytest.raises(TypeError):
        sealer.seal_many([(CONTEXT, buffer), (CONTEXT, 1)])  # type: ignore[list-item]
    buffer.append(0)


def test_contexts() -> None:
    context = Context("user-secret", tenant="42", name="", extra={"b": "1", "a": "2"})
    assert (context.purpose, context.tenant, context.name) == ("user-secret", "42", "")
    assert context.extra == {"a": "2", "b": "1"}
    assert context == Context("user-secret", tenant="42", name="", extra={"a": "2", "b": "1"})
    assert hash(context) == hash(Context("user-secret", tenant="42", name=""))
    assert context != Context("user-secret", tenant="42", extra={"a": "2", "b": "1"})
    assert context != "user-secret"
    assert Context.none() != Context()
    assert repr(context) == "Context(purpose='user-secret', tenant='42', name='', extra={'b': '1', 'a': '2'})"
    assert (repr(Context()), repr(Context.none())) == ("Context()", "Context.none()")
    for each in (context, Context(), Context.none()):
        assert pickle.loads(pickle.dumps(each)) == each == copy.deepcopy(each)
    with pytest.raises(AttributeError):
        context.tenant = "43"  # type: ignore[misc]
    with pytest.raises(AttributeError):
        context.colour = "red"  # type: ignore[attr-defined]


def test_a_context_keeps_its_texts(sealer: Sealer) -> None:
    context = Context("".join(["user", "-", "secret"]), extra={"k" * 3: "ä" * 40})
    token = sealer.seal(context, b"secret")
    gc.collect()
    assert sealer.open(Context("user-secret", extra={"kkk": "ä" * 40}), token) == b"secret"
    changed = context.extra
    changed["kkk"] = "other"
    assert sealer.open(context, token) == b"secret"


def test_nothing_that_a_context_gives_can_change_it(sealer: Sealer) -> None:
    context = Context("p", extra={"".join(["k", "ey"]): "".join(["val", "ue"])})
    token = sealer.seal(context, b"secret")
    assert type(context._pairs) is tuple
    assert all(type(pair) is tuple for pair in context._pairs)
    assert sealer.open(context, token) == b"secret"


def test_mounts_are_looked_at_without_variables_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.joinpath("key").write_text(os.urandom(32).hex())
    manifest = tmp_path / "vault.toml"
    manifest.write_text('version = 1\n[keyring.main]\nsources = ["file:key"]\n')
    tmp_path.joinpath("mounted").write_text("of the mount")
    monkeypatch.setenv("SET", "of the process")
    vault = Vault.load(manifest, mounts=tmp_path)
    assert vault.secret("MOUNTED").expose_text() == "of the mount"
    assert vault.secret("SET").expose_text() == "of the process"


def test_the_traceback_of_a_batch_holds_no_other_secret(sealer: Sealer) -> None:
    items = [(CONTEXT, sealer.seal(CONTEXT, MARKER.encode())), (CONTEXT, "vs1.x")]
    with pytest.raises(errors.MalformedError) as raised:
        sealer.open_many(items)
    shown = "".join(traceback.TracebackException.from_exception(raised.value, capture_locals=True).format())
    assert MARKER not in shown


def test_a_context_is_meant_or_refused(sealer: Sealer) -> None:
    token = sealer.seal(Context.none(), b"secret")
    assert sealer.open(Context.none(), token) == b"secret"
    with pytest.raises(errors.UsageError):
        sealer.seal(Context(), b"secret")
    with pytest.raises(errors.ContextMismatchError):
        sealer.open(CONTEXT, token)


def test_many(sealer: Sealer) -> None:
    contexts = [Context("user-secret", tenant=str(number)) for number in range(1000)]
    secrets = [b"secret %d" % number for number in range(1000)]
    tokens = sealer.seal_many(zip(contexts, secrets, strict=True))
    assert len(set(tokens)) == 1000
    assert sealer.open_many(zip(contexts, tokens, strict=True)) == secrets
    assert sealer.open_many(zip(contexts, [bytearray(token.encode()) for token in tokens], strict=True)) == secrets
    assert sealer.seal_many([]) == []
    assert sealer.open_many(iter(())) == []


def test_one_of_many_that_fails(sealer: Sealer) -> None:
    tokens = sealer.seal_many([(CONTEXT, b"a"), (CONTEXT, b"b")])
    with pytest.raises(errors.ContextMismatchError) as raised:
        sealer.open_many([(CONTEXT, tokens[0]), (Context("other"), tokens[1])])
    assert raised.value.item == 1
    first, second = sealer.open_each([(CONTEXT, tokens[0]), (Context("other"), tokens[1])])
    assert first == b"a"
    assert isinstance(second, errors.ContextMismatchError)
    with pytest.raises(errors.UsageError) as refused:
        sealer.seal_many([(Context(), b"a"), (CONTEXT, b"b")])
    assert refused.value.item == 0
    third, fourth = sealer.seal_each([(Context(), b"a"), (CONTEXT, b"b")])
    assert isinstance(third, errors.UsageError)
    assert isinstance(fourth, str)


def test_limits(key_file: Path) -> None:
    sealer = Sealer.from_key_file(key_file, limit=4, padded=True)
    assert inspect(sealer.seal(CONTEXT, b"abcd")).padded
    with pytest.raises(errors.TooLargeError):
        sealer.seal(CONTEXT, b"abcde")
    with pytest.raises(errors.UsageError):
        Sealer.from_key_file(key_file, limit=-1)


def test_refresh_notices_a_new_key(key_file: Path) -> None:
    sealer = Sealer.from_key_file(key_file)
    before = sealer.primary()
    key_file.write_text(os.urandom(32).hex())
    assert sealer.primary() == before
    sealer.refresh()
    assert sealer.primary() != before
    key_file.unlink()
    with pytest.raises(errors.IoError):
        sealer.refresh()
    assert sealer.open(CONTEXT, sealer.seal(CONTEXT, b"secret")) == b"secret"


def test_secrets_by_name(load: Callable[..., Vault]) -> None:
    vault = load(DB_PASSWORD=MARKER, EMPTY="")
    secret = vault.secret("DB_PASSWORD")
    assert secret.expose_secret() == MARKER.encode()
    assert secret.expose_text() == MARKER
    assert (secret.source_kind, secret.version, secret.notes) == ("variable", None, ())
    assert "DB_PASSWORD" in secret.source
    assert MARKER not in f"{secret!r} {secret} {secret.source}"
    assert vault.optional_secret("OPTIONAL") is None
    for name in ("MISSING", "EMPTY"):
        with pytest.raises(errors.NotFoundError):
            vault.secret(name)
    with pytest.raises(errors.MalformedError):
        vault.secret("../etc/passwd")
    with pytest.raises(errors.UsageError):
        Vault.load(profile="staging")


def test_a_binary_secret_is_not_text(manifest: Path) -> None:
    manifest.write_text(manifest.read_text() + '[secrets.BLOB]\ntype = "binary"\npath = "blob"\n')
    manifest.with_name("blob").write_bytes(b"\xff\x00" + MARKER.encode())
    secret = Vault.load(manifest, variables={}).secret("BLOB")
    assert secret.expose_secret() == b"\xff\x00" + MARKER.encode()
    with pytest.raises(errors.MalformedError) as raised:
        secret.expose_text()
    assert MARKER not in all_of(raised.value)


def test_the_configuration_of_the_environment(manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VAULT_CORE_CONFIG", raising=False)
    with pytest.raises(errors.NotFoundError):
        Vault.load()
    monkeypatch.setenv("VAULT_CORE_CONFIG", str(manifest))
    monkeypatch.setenv("DB_PASSWORD", "from the process")
    assert Vault.load().secret("DB_PASSWORD").expose_text() == "from the process"


def test_legacy_formats(tmp_path: Path) -> None:
    path = tmp_path / "master_key"
    path.write_text(KEY_TEXT)
    key = LegacyKey.from_key_file(path, "flowfile-v1")
    value = key.seal("flowfile-v1", b"secret", tenant="7")
    assert value.startswith("$ffsec$1$7$")
    assert key.open("flowfile-v1", value) == key.open("flowfile-v1", value.encode()) == b"secret"
    with pytest.raises(errors.UnsupportedError):
        LegacyKey.from_key_file(path, "vs1")
    with pytest.raises(errors.MalformedError):
        key.open("flowfile-v1", "plain text")
    tmp_path.joinpath("vault.toml").write_text(
        'version = 1\n[keyring.flowfile]\nkind = "text"\nsources = ["file:master_key"]\n'
    )
    vault = Vault.load(tmp_path / "vault.toml")
    assert vault.open_legacy("flowfile", "flowfile-v1", value) == b"secret"
    with pytest.raises(errors.ConfigError):
        vault.seal_legacy("other", "flowfile-v1", b"secret", tenant="7")


def test_objects_are_not_copied(sealer: Sealer, load: Callable[..., Vault], tmp_path: Path) -> None:
    path = tmp_path / "master_key"
    path.write_text(KEY_TEXT)
    key = LegacyKey.from_key_file(path, "flowfile-v1")
    for each in (sealer, load(X="x"), load(X="x").secret("X"), key):
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            with pytest.raises(TypeError):
                pickle.dumps(each, protocol)
        with pytest.raises(TypeError):
            copy.copy(each)
        with pytest.raises(TypeError):
            copy.deepcopy(each)


def test_what_is_shown_is_redacted(sealer: Sealer, load: Callable[..., Vault], key_file: Path) -> None:
    assert repr(sealer) == str(sealer) == "<vault_core.vault.Sealer [redacted]>"
    assert repr(load()) == "<vault_core.vault.Vault [redacted]>"
    assert repr(load(X=MARKER).secret("X")).startswith("Secret([redacted] from ")
    assert key_file.read_text() not in repr(vars(vault_core))


def test_there_is_a_class_for_each_kind() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.Error)]
    numbers = sorted(kind.status for kind in kinds if kind is not errors.Error)
    assert numbers == list(range(1, 28))
    for kind in kinds:
        assert (kind.code, kind.exit_code) == _native.status(kind.status)
        assert kind.__name__ in vault_core.__all__
    # The library's own list ends where this one does.
    assert _native.status(28) == ("unclassified", 1)


def test_an_error_of_a_later_release() -> None:
    error = errors.from_status(4_000_000_000, 12, "text", "hint")
    assert type(error) is errors.Error
    assert (error.status, error.code, error.public_code, error.hint) == (
        4_000_000_000,
        "unclassified",
        "open-failed",
        "hint",
    )


def test_errors_cross_processes(sealer: Sealer) -> None:
    with pytest.raises(errors.ContextMismatchError) as raised:
        sealer.open(Context("other"), sealer.seal(CONTEXT, b"secret"))
    again = pickle.loads(pickle.dumps(raised.value))
    assert type(again) is errors.ContextMismatchError
    assert (str(again), again.code, again.public_code) == (str(raised.value), "context-mismatch", "open-failed")


def test_no_error_holds_a_value(sealer: Sealer, load: Callable[..., Vault], tmp_path: Path) -> None:
    token = sealer.seal(CONTEXT, MARKER.encode())
    altered = token[:-4] + ("AAAA" if token[-4:] != "AAAA" else "BBBB")
    path = tmp_path / "bad_key"
    path.write_text(f"{MARKER}\n{MARKER}")
    calls: list[Callable[[], object]] = [
        lambda: sealer.open(Context("other"), token),
        lambda: sealer.open(CONTEXT, altered),
        lambda: sealer.open(CONTEXT, f"{MARKER}{token}"),
        lambda: sealer.open(CONTEXT, f"{MARKER}\udc80{token}"),
        lambda: sealer.open(CONTEXT, b"\xff" + token.encode() + MARKER.encode()),
        lambda: sealer.open_many([(CONTEXT, altered)]),
        lambda: sealer.rewrap(f"{token}{MARKER}"),
        lambda: inspect(MARKER),
        lambda: Context(f"\udc80{MARKER}"),
        lambda: load(X=f"\udc80{MARKER}"),
        lambda: load(X=MARKER, X_FILE=str(path)).secret("X"),
        lambda: Sealer.from_key_file(path),
        lambda: LegacyKey.from_key_file(path, "flowfile-v1").seal("flowfile-v1", MARKER.encode(), tenant="x"),
    ]
    for call in calls:
        with pytest.raises(errors.Error) as raised:
            call()
        told = all_of(raised.value)
        assert MARKER not in told
        assert token[30:60] not in told


def all_of(error: BaseException | None) -> str:
    told = ""
    while error is not None:
        told += f"{error!r} {error.args} {vars(error)} {''.join(traceback.format_exception_only(error))}"
        told += "".join(str(getattr(error, name, "")) for name in ("object", "reason", "filename"))
        error = error.__cause__ or error.__context__
    return told


@pytest.mark.parametrize("call", [lambda: encoded(f"{MARKER}\udc80"), lambda: decoded(b"\xff" + MARKER.encode())])
def test_what_is_no_text_is_not_shown(call: Callable[[], object]) -> None:
    with pytest.raises(errors.MalformedError) as raised:
        call()
    assert MARKER not in all_of(raised.value)


def test_threads_share_a_sealer(sealer: Sealer) -> None:
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            context = Context("user-secret", tenant=str(number))
            for size in (64, 20_000):
                for _ in range(50):
                    assert sealer.open(context, sealer.seal(context, bytes(size))) == bytes(size)
                    sealer.refresh()
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


@pytest.mark.parametrize(
    ("secret", "released"),
    [(bytes(12 << 20), True), (bytearray(12 << 20), False), (bytes(64), False)],
    ids=["large", "changeable", "small"],
)
def test_other_threads_run_during_large_calls(key_file: Path, secret: bytes | bytearray, released: bool) -> None:
    sealer = Sealer.from_key_file(key_file, limit=16 << 20)
    progress = 0
    stop = threading.Event()

    def count() -> None:
        nonlocal progress
        while not stop.is_set():
            progress += 1
            time.sleep(0)

    other = threading.Thread(target=count)
    other.start()
    interval = sys.getswitchinterval()
    # From here on the other thread runs only where the GIL is given up on purpose, and not where the
    # garbage of another test closes a file.
    gc.collect()
    gc.disable()
    sys.setswitchinterval(60)
    time.sleep(0.05)
    try:
        seen = set()
        for _ in range(20):
            before = progress
            sealer.seal(CONTEXT, secret)
            seen.add(progress - before)
    finally:
        sys.setswitchinterval(interval)
        gc.enable()
        stop.set()
        other.join()
    assert (max(seen) > 0) == released


def test_forked_children_never_share_a_data_key(sealer: Sealer) -> None:
    sealer.seal(CONTEXT, b"secret")
    fork = multiprocessing.get_context("fork")
    pipes = [fork.Pipe(duplex=False) for _ in range(8)]

    def seal(pipe: Any) -> None:
        pipe.send([sealer.seal(CONTEXT, b"secret") for _ in range(1000)])
        pipe.close()

    children = [fork.Process(target=seal, args=(sending,)) for _, sending in pipes]
    for child in children:
        child.start()
    own = [sealer.seal(CONTEXT, b"secret") for _ in range(1000)]
    tokens = [token for receiving, _ in pipes for token in receiving.recv()]
    for child in children:
        child.join()
        assert child.exitcode == 0
    assert len(tokens) == 8000
    assert len({token.split(".")[2] for token in tokens}) == 8000
    assert len({token.split(".")[2] for token in tokens + own}) == 9000
    assert set(sealer.open_many((CONTEXT, token) for token in tokens)) == {b"secret"}


def test_memory_stays_flat(sealer: Sealer) -> None:
    def work(rounds: int) -> None:
        for _ in range(rounds):
            token = sealer.seal(Context("p", extra={"k": "v"}), bytes(1000))
            sealer.open_each([(CONTEXT, token), (Context("p", extra={"k": "v"}), token)])
            with pytest.raises(errors.Error):
                sealer.open(CONTEXT, token)

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    work(500)
    gc.collect()
    before = resident()
    work(5000)
    gc.collect()
    assert resident() - before < 4 << 20
