"""Contexts, and the objects that seal, open and find."""

from __future__ import annotations

import os

from . import _native
from .errors import Error, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Self, TypeVar

    from typing_extensions import Buffer

    from ._native import Secret

    Result = TypeVar("Result", str, bytes)


class Context(_native.Context):
    """What a token is bound to: it opens only for an equal context.

    `purpose` says what kind of secret it is, as in "user-secret"; `tenant` whose, `name` which;
    `extra` are further pairs. Each may be absent (None), which differs from empty. Texts have at
    most 4096 bytes of UTF-8 and are compared byte by byte; there are at most 64 of them. A context
    without any is refused with UsageError when it is used, because it is an accident:
    `Context.none()` says that it is meant. Immutable.
    """

    __slots__ = ()

    def __new__(
        cls,
        purpose: str | None = None,
        *,
        tenant: str | None = None,
        name: str | None = None,
        extra: Mapping[str, str] | None = None,
    ) -> Self:
        return super().__new__(cls, purpose, tenant, name, _pairs(extra) if extra else None, False)

    @classmethod
    def none(cls) -> Self:
        """Bound to nothing: a token opens wherever it is moved to."""
        return super().__new__(cls, None, None, None, None, True)

    @property
    def extra(self) -> dict[str, str]:
        """The further pairs."""
        return dict(self._pairs or ())

    def _fields(self) -> tuple[object, ...]:
        return (self.purpose, self.tenant, self.name, sorted(self._pairs or ()), self._unbound)

    def __eq__(self, other: object) -> bool:
        return self._fields() == other._fields() if isinstance(other, Context) else NotImplemented

    def __hash__(self) -> int:
        return hash((self.purpose, self.tenant, self.name))

    def __reduce__(self) -> tuple[object, ...]:
        return _again, (self.purpose, self.tenant, self.name, self._pairs, self._unbound)

    def __repr__(self) -> str:
        if self._unbound:
            return "Context.none()"
        fields = {"purpose": self.purpose, "tenant": self.tenant, "name": self.name, "extra": self.extra or None}
        return f"Context({', '.join(f'{field}={value!r}' for field, value in fields.items() if value is not None)})"


class Inspection:
    """What a token tells without a key. None of it is authenticated."""

    __slots__ = ("kid", "padded", "payload", "sealed_at")

    kid: str
    """The id of the master key that it needs."""
    sealed_at: int
    """When it was sealed, in seconds since 1970."""
    payload: int
    """How many bytes the secret has; with padding, as many as the padded one."""
    padded: bool
    """Whether the secret was padded to a multiple of 32 bytes."""

    def __init__(self, kid: str, sealed_at: int, payload: int, padded: bool) -> None:
        self.kid = kid
        self.sealed_at = sealed_at
        self.payload = payload
        self.padded = padded

    def __repr__(self) -> str:
        return (
            f"Inspection(kid={self.kid!r}, sealed_at={self.sealed_at}, payload={self.payload}, padded={self.padded})"
        )


def inspect(token: str | Buffer) -> Inspection:
    """Reads a token without a key.

    Raises TooLargeError, UnsupportedError or MalformedError.
    """
    return Inspection(*_native.inspect(token))


class Following:
    """How changes of keys are followed."""

    __slots__ = ("failure", "looked")

    looked: int
    """When the last look at keys and states succeeded, in seconds since 1970."""
    failure: str | None
    """Why the looks since then failed; None if none did. What was loaded before goes on to seal and open."""

    def __init__(self, looked: int, failure: str | None) -> None:
        self.looked = looked
        self.failure = failure

    def __repr__(self) -> str:
        return f"Following(looked={self.looked}, failure={self.failure!r})"


class Sealer(_native.Handle):
    """Master keys that seal and open tokens.

    Changes of the keys are followed without a call: see `Vault`. May be shared between threads, and used after `fork()`. Cannot be copied or pickled: a process
    that is not forked loads its own.
    """

    __slots__ = ()

    def __new__(cls, *_: object, **__: object) -> Self:
        raise TypeError(f"{cls.__name__} is made by {'load' if issubclass(cls, Vault) else 'from_key_file'}()")

    @classmethod
    def from_key_file(
        cls, path: str | os.PathLike[str], *, limit: int | None = None, padded: bool = False
    ) -> Sealer:
        """The one master key in a file, without a `vault.toml`.

        Secrets have at most `limit` bytes: 1048576 unless it is given, and never more than 16777216.
        With `padded`, what is sealed is padded to a multiple of 32 bytes, so that tokens tell less
        of the length.

        Raises IoError, KeyMalformedError, TooLargeError.
        """
        return _native.Handle.__new__(
            Sealer, "key-file", os.fspath(path), None, None, _limit(limit), padded, None, None, None
        )

    def following(self) -> Following:
        """How changes of keys are followed: when the last look succeeded, and why those since failed."""
        return Following(*self._following())

    def seal_many(self, items: Iterable[tuple[Context, Buffer]]) -> list[str]:
        """Seals many secrets, each for its context, in one call.

        From some hundreds on, they are shared among as many threads as the process has processors,
        at most 8, which end before the call does. A change of keys meanwhile may take effect for a part
        of them. Where one fails, its error is raised, with the number of the item, from 0, as `item`;
        `seal_each` gives the others.
        """
        return _all(self._seal_batch(items))

    def seal_each(self, items: Iterable[tuple[Context, Buffer]]) -> list[str | Error]:
        """As `seal_many`, but gives an item's error in its place."""
        return self._seal_batch(items)

    def open_many(self, items: Iterable[tuple[Context, str | Buffer]]) -> list[bytes]:
        """Opens many tokens, each for its context, in one call, in threads as `seal_many`.

        Where one fails, its error is raised, with the number of the item, from 0, as `item`;
        `open_each` gives the others.
        """
        return _all(self._open_batch(items))

    def open_each(self, items: Iterable[tuple[Context, str | Buffer]]) -> list[bytes | Error]:
        """As `open_many`, but gives an item's error in its place."""
        return self._open_batch(items)

    def __repr__(self) -> str:
        return f"<{type(self).__module__}.{type(self).__qualname__} [redacted]>"


class Vault(Sealer):
    """What a `vault.toml` declares: keys, and secrets by name.

    A vault follows changes of its keys: before it seals or opens, it looks at the states of its keys and
    at their files if its last look is older than `follow` in `vault.toml` (1 s), and it looks once more
    before it refuses a value whose key it does not know or may not use. A look that fails leaves what is
    loaded, and `following()` shows why. `vault.toml` itself is read once. May be shared between threads, and used after `fork()`. Cannot be copied or pickled.
    """

    __slots__ = ()

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str] | None = None,
        *,
        profile: str | None = None,
        preset: str | None = None,
        limit: int | None = None,
        padded: bool = False,
        variables: Mapping[str, str] | None = None,
        mounts: str | os.PathLike[str] | None = None,
    ) -> Self:
        """Loads a `vault.toml`: that at `path`, or the one that VAULT_CORE_CONFIG names.

        `profile` is the one that VAULT_CORE_PROFILE names unless it is given, with a path. With a
        `preset`, every secret is found by its rules, whatever the file declares. With `variables`,
        secrets are looked for at these instead of the process's, and in `mounts` instead of
        /run/secrets; keys are found where the process was told to look. `limit` and `padded` are
        those of `Sealer.from_key_file`.

        Raises IoError or ConfigError for `vault.toml` or a state file; NotFoundError where
        VAULT_CORE_CONFIG is not set; KeyMissingError, KeyMalformedError, KeyUnavailableError or
        TooLargeError for keys; RefusedError for a state file that must not be trusted;
        UnsupportedError for a preset that is not known.
        """
        if path is None and profile is not None:
            raise UsageError("a profile needs a path: without one, VAULT_CORE_PROFILE names it")
        if variables is None and mounts is not None:
            variables = os.environ
        return _native.Handle.__new__(
            cls,
            "environment" if path is None else "file",
            None if path is None else os.fspath(path),
            profile,
            None,
            _limit(limit),
            padded,
            preset,
            None if variables is None else _pairs(variables),
            "/run/secrets" if mounts is None else os.fspath(mounts),
        )

    def secret(self, name: str) -> Secret:
        """A deployment secret by name, from the first source that has it.

        NAME@previous or NAME@2 is an older version from the store. Files and stores are read anew
        every time.

        Raises NotFoundError, which says where it was looked for; MalformedError for a name that no
        secret can have; ConfigError if it is empty, not as declared, or set twice; IoError,
        TooLargeError or DatabaseError if a source cannot be read; as `open` for what a store holds.
        """
        return self._secret(name)

    def optional_secret(self, name: str) -> Secret | None:
        """As `secret` without versions, but None where the secret is declared as not required and no
        source has it.
        """
        return self._optional_secret(name)

    def versions(self, name: str) -> list[tuple[int, int]]:
        """The versions of a secret in the store, the newest first: each its number, from 1, and when
        it was set, in seconds since 1970. Empty if the store does not have it.

        Raises ConfigError if no store is declared, MalformedError for the name, DatabaseError,
        CorruptError or RefusedError by the store.
        """
        return self._versions(name)

    def seal_legacy(self, keyring: str, format: str, secret: Buffer, *, tenant: str | None = None) -> str:
        """Writes a value in a legacy format, as in "flowfile-v1", under the primary key of a keyring
        of key texts. `tenant` is the decimal user id where the format needs one.

        Raises as `open_legacy`, and CannotSealError for a weak or published key, for a key text
        that is not of the format's kind, and for formats that are never written.
        """
        return self._legacy_seal(keyring, format, tenant, secret)

    def open_legacy(self, keyring: str, format: str, value: str | Buffer, *, tenant: str | None = None) -> bytes:
        """Opens a value in a legacy format. `tenant` is the decimal user id where the format needs
        one and the value does not carry it. Where the keyring has several keys, each that may open
        is tried: such values name no key.

        Raises UnsupportedError for a format that is not known or not legacy; TooLargeError;
        MalformedError if the syntax does not fit; CorruptError for a wrong key or an altered value;
        ConfigError for a keyring that is not declared or holds master keys.
        """
        return self._legacy_open(keyring, format, tenant, value)


class LegacyKey:
    """One key text, which reads and writes legacy formats without a `vault.toml`.

    May be shared between threads, and used after `fork()`. Cannot be copied or pickled.
    """

    __slots__ = ("_handle",)
    _handle: _native.Handle

    def __new__(cls, *_: object, **__: object) -> Self:
        raise TypeError("LegacyKey is made by from_key_file()")

    @classmethod
    def from_key_file(cls, path: str | os.PathLike[str], format: str) -> Self:
        """The one key text in a file, read as the application of a format reads it.

        Raises IoError, KeyMalformedError, TooLargeError; UnsupportedError for a format that is not
        known or not legacy.
        """
        key = super().__new__(cls)
        key._handle = _native.Handle(
            "text-key-file", os.fspath(path), None, format, -1, False, None, None, None
        )
        return key

    def seal(self, format: str, secret: Buffer, *, tenant: str | None = None) -> str:
        """As `Vault.seal_legacy`."""
        return self._handle._legacy_seal(None, format, tenant, secret)

    def open(self, format: str, value: str | Buffer, *, tenant: str | None = None) -> bytes:
        """As `Vault.open_legacy`."""
        return self._handle._legacy_open(None, format, tenant, value)

    def __reduce__(self) -> str:
        raise TypeError(f"{type(self)!r} refuses to be copied and pickled")

    def __repr__(self) -> str:
        return f"<{type(self).__module__}.{type(self).__qualname__} [redacted]>"


def _again(
    purpose: str | None, tenant: str | None, name: str | None, pairs: tuple[tuple[str, str], ...] | None, unbound: bool
) -> Context:
    return _native.Context.__new__(Context, purpose, tenant, name, pairs, unbound)


def _pairs(mapping: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple((key, value) for key, value in mapping.items())


def _limit(limit: int | None) -> int:
    if limit is not None and limit < 0:
        raise UsageError("the limit is negative")
    return -1 if limit is None else min(limit, 1 << 62)


def _all(results: list[Result | Error]) -> list[Result]:
    for item, result in enumerate(results):
        if isinstance(result, Error):
            result.item = item
            # What else came is not for those who look at the traceback.
            results.clear()
            raise result
    return results  # type: ignore[return-value] # no error is among them
