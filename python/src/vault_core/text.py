"""Secrets as text. Python's own errors would hold the secret, even as the context of others."""

from __future__ import annotations

from .errors import MalformedError


def encoded(secret: str) -> bytes:
    """Its UTF-8. Raises MalformedError if it has none, TypeError if it is no text."""
    try:
        return str.encode(secret)
    except UnicodeEncodeError:
        pass
    raise MalformedError("malformed secret: it cannot be written as UTF-8")


def decoded(secret: bytes) -> str:
    """The text of UTF-8. Raises MalformedError if it is none."""
    try:
        return secret.decode()
    except UnicodeDecodeError:
        pass
    raise MalformedError("malformed secret: it is not UTF-8 text")
