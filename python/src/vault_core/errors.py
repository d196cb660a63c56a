"""What can go wrong: one class for each kind of error, with its code.

`code` is the stable name of the kind, for programs; `str()` is one line for people. Neither holds
a secret, key text or a token. What a remote caller may be told is `public_code`.
"""

from __future__ import annotations

from . import _native

__all__ = [
    "AbortedError",
    "AlreadyInitialisedError",
    "CannotSealError",
    "ConfigError",
    "ContextMismatchError",
    "CorruptError",
    "DatabaseError",
    "DoctorFailuresError",
    "DurabilityUnknownError",
    "Error",
    "FindingsError",
    "IoError",
    "KeyDestroyedError",
    "KeyDisabledError",
    "KeyMalformedError",
    "KeyMissingError",
    "KeyUnavailableError",
    "MalformedError",
    "NotFoundError",
    "NotInitialisedError",
    "OpenFailedError",
    "RefusedError",
    "TemporaryError",
    "TooLargeError",
    "UnclassifiedError",
    "UnknownKeyError",
    "UnsupportedError",
    "UsageError",
]


class Error(Exception):
    """A call failed. Raised as such only for kinds that this release does not know."""

    status: int = 1
    """The number of the kind in `vault.h`."""

    code: str = "unclassified"
    """The stable name of the kind, as in "context-mismatch"."""

    exit_code: int = 1
    """The status with which the command `vault` ends in such a case."""

    public_code: str = "unclassified"
    """What to tell a remote caller: the code, or "open-failed" for everything that a token or value
    can be refused for, so that nobody learns from an answer why it was."""

    hint: str | None = None
    """What to do, where the message does not say it already."""

    item: int | None = None
    """Which item of a batch failed, from 0."""


class UnclassifiedError(Error):
    """Anything without a kind of its own, and bugs of the library."""


class UsageError(Error):
    """A rule of the call was broken, as with a context without a field."""


class AbortedError(Error):
    """The user said no. Commands only."""


class AlreadyInitialisedError(Error):
    """There is a vault already. Commands only."""


class NotInitialisedError(Error):
    """There is no configuration yet. Commands only."""


class NotFoundError(Error):
    """Nothing has this name."""


class MalformedError(Error):
    """A text is not of the expected form."""


class UnsupportedError(Error):
    """A version, suite, key type, flag or format that this release does not know."""


class TooLargeError(Error):
    """Longer than the limit."""


class CorruptError(Error):
    """Damaged, forged, or for legacy formats under another key."""


class ContextMismatchError(Error):
    """The token is authentic and belongs to another context."""


class OpenFailedError(Error):
    """What a remote caller may be told of any refusal of a token or value. Never raised by calls."""


class CannotSealError(Error):
    """The primary key must not seal, or the operating system gives no randomness."""


class FindingsError(Error):
    """A check found something. Commands only."""


class ConfigError(Error):
    """A declaration in vault.toml or a state file is wrong, or a secret is not as declared."""


class IoError(Error):
    """A file could not be read or written."""


class DatabaseError(Error):
    """A store or database refused, failed, or is not as declared."""


class KeyMissingError(Error):
    """No key where one is needed."""


class KeyMalformedError(Error):
    """A key file holds something that is not a key."""


class UnknownKeyError(Error):
    """The token names a key that the keyring does not list."""


class KeyUnavailableError(Error):
    """The keyring lists the key, and its material was not found."""


class DoctorFailuresError(Error):
    """The doctor found failures. Commands only."""


class KeyDisabledError(Error):
    """The key exists and is disabled."""


class KeyDestroyedError(Error):
    """The key was destroyed."""


class RefusedError(Error):
    """Refused because it could lose data."""


class DurabilityUnknownError(Error):
    """Written, but it may not survive a power loss."""


class TemporaryError(Error):
    """Locked or interrupted: try again."""


def from_status(status: int, public_status: int, message: str, hint: str | None) -> Error:
    """The exception of a status of `vault.h`; `Error` itself for one of a later release."""
    known = 0 < status <= len(_KINDS)
    error = _KINDS[status - 1](message) if known else Error(message)
    if not known:
        error.status = status
    if public_status != status:
        error.public_code = _native.status(public_status)[0]
    if hint is not None:
        error.hint = hint
    return error


# In the order of their numbers, from 1, which never changes.
_KINDS: tuple[type[Error], ...] = (
    UnclassifiedError,
    UsageError,
    AbortedError,
    AlreadyInitialisedError,
    NotInitialisedError,
    NotFoundError,
    MalformedError,
    UnsupportedError,
    TooLargeError,
    CorruptError,
    ContextMismatchError,
    OpenFailedError,
    CannotSealError,
    FindingsError,
    ConfigError,
    IoError,
    DatabaseError,
    KeyMissingError,
    KeyMalformedError,
    UnknownKeyError,
    KeyUnavailableError,
    DoctorFailuresError,
    KeyDisabledError,
    KeyDestroyedError,
    RefusedError,
    DurabilityUnknownError,
    TemporaryError,
)

for _status, _kind in enumerate(_KINDS, start=1):
    _kind.status = _status
    _kind.code, _kind.exit_code = _native.status(_status)
    _kind.public_code = _kind.code
del _status, _kind
