"""What a column type reads beside tokens, while `vault migrate` moves a column to them.

::

    SealedText(vault, context, reads=(partial(vault.open_legacy, "face", "face-column"), plaintext))

A value that begins as a token does is a token, and never read as anything else.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeAlias

from vault_core import MalformedError, Sealer
from vault_core.text import encoded

if TYPE_CHECKING:
    from collections.abc import Callable

    from vault_core import Context

__all__ = ["Reads", "plaintext"]

Reads: TypeAlias = "tuple[Callable[[str], bytes], ...]"
"""Functions from a stored text to its secret, in the order in which they are asked. One that raises
MalformedError leaves the value to the next; whatever else it raises is raised."""

# Quotes, b'…', \\x… and white space are what programs put around a value that they store as text.
_AROUND = re.compile(r"""^(?:\\x|[bBuU]?["']|\s)+""")


def plaintext(value: str) -> bytes:
    """A value that was not sealed yet. As in `vault.toml`, it is the last of `reads`.

    Raises MalformedError for what looks sealed: a token with one character wrong or in quotes, or
    the format of another application. It is no secret.
    """
    inner = _AROUND.sub("", value)
    damaged = len(inner) > _SHORTEST_TOKEN and sum(a == b for a, b in zip(inner[:4], "vs1.", strict=False)) >= 3
    if damaged or _OTHERS.match(inner):
        raise MalformedError("malformed value: it is no token, and looks sealed")
    return encoded(value)


def read(sealer: Sealer, context: Context, reads: Reads, value: str) -> bytes:
    """Opens a token, or gives what the first of `reads` makes of another value."""
    if not value.startswith("vs1."):
        for function in reads:
            try:
                return function(value)
            except MalformedError:
                continue
    return sealer.open(context, value)


_SHORTEST_TOKEN = 100
# What Fernet, Flowfile and social-publisher write.
_OTHERS = re.compile(r"gAAAA[\w-]{90,}={0,2}\s*$|\$ffsec\$|(?:v1:)?[0-9a-f]{24,32}:[0-9a-f]{32}:[0-9a-f]*$")
