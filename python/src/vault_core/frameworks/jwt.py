"""JSON Web Tokens with HS256 and the like, of python-jose or PyJWT, which outlive a new secret.

::

    keys = SigningKeys(vault, "SECRET_KEY", grace=timedelta(minutes=30))

    token = jwt.encode(payload, keys.current, algorithm="HS256")
    payload = keys.decode(jwt.decode, token, algorithms=["HS256"])

`jwt` is that of `from jose import jwt`, or `import jwt`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from vault_core import NotFoundError, Vault

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

__all__ = ["SigningKeys"]


class SigningKeys:
    """A secret that signs, and the one before it, which tokens are still verified with.

    That is for `grace` after the current version of the store was set; it is as long as the longest token
    is valid. Where a file or variable delivers the secret, the one before is the secret NAME_PREVIOUS, if
    something delivers that, and `grace` begins when this object is made. After a leak nothing that was
    signed before may be taken: `grace` of 0, or set the secret twice.

    The secret is read again where it was read more than five seconds ago, so a new version needs no
    restart; and sooner where a token does not verify, because another process may have read it already.
    May be shared between threads.
    """

    def __init__(self, vault: Vault, name: str, *, grace: timedelta) -> None:
        if grace.total_seconds() < 0:
            raise ValueError("the grace is negative")
        self._vault = vault
        self._name = name
        self._grace = grace.total_seconds()
        self._made = time.time()
        self._read = self._load()

    @property
    def current(self) -> str:
        """What signs. Raises as `Vault.secret`."""
        return self._keys(5.0)[0]

    def decode(self, decode: Callable[..., Any], token: str | bytes, **options: Any) -> Any:
        """What `decode` of the library gives for a token, by the first key under which it gives anything.

        Raises what it raises under the current key, where none does; as `Vault.secret`.
        """
        tried: list[str] = []
        failure: Exception | None = None
        for age in (5.0, 1.0):
            for key in self._keys(age):
                if key in tried:
                    continue
                tried.append(key)
                try:
                    return decode(token, key, **options)
                except Exception as error:
                    failure = failure or error
        assert failure is not None
        raise failure

    def _keys(self, age: float) -> list[str]:
        moment, current, previous, until = self._read
        if time.monotonic() - moment > age:
            self._read = moment, current, previous, until = self._load()
        return [current] if previous is None or time.time() >= until else [current, previous]

    def _load(self) -> tuple[float, str, str | None, float]:
        moment = time.monotonic()
        secret = self._vault.secret(self._name)
        version, previous, since = secret.version, None, self._made
        try:
            if version is None:
                previous = self._vault.secret(f"{self._name}_PREVIOUS")
            else:
                versions = self._vault.versions(self._name)
                since = dict(versions).get(version, since)
                if before := [number for number, _ in versions if number < version]:
                    previous = self._vault.secret(f"{self._name}@{max(before)}")
        except NotFoundError:
            previous = None
        value = None if previous is None else previous.expose_text()
        return moment, secret.expose_text(), value, since + self._grace
