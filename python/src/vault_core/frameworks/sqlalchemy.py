"""SQLAlchemy: columns that hold tokens, and attributes that hold secrets.

::

    class Account(Base):
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)
        api_key: Mapped[str | None] = mapped_column(SealedText(vault, Context("user-secret", name="account.api_key")))

Every value of such a column has one context, so a token may be moved from row to row. Where the
context needs the row, as its owner, keep a column of text and call `vault.seal` and `vault.open`.
Works in synchronous and asynchronous sessions; a call takes microseconds and does no I/O.

Make engines with `create_engine(..., hide_parameters=True)`: without it, SQLAlchemy's errors and logs
show a statement's parameters, among them tokens, and secrets where another column's type fails.
Errors of these types show none.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Text, TypeDecorator
from sqlalchemy.exc import DontWrapMixin
from sqlalchemy.sql import operators
from vault_core import Context, Sealer
from vault_core.text import decoded, encoded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Dialect

__all__ = ["SealedBytes", "SealedText", "not_wrapped"]

T = TypeVar("T")


class _Sealed(TypeDecorator[T]):
    impl = Text
    cache_ok = True

    def __init__(self, sealer: Sealer | Callable[[], Sealer], context: Context) -> None:
        super().__init__()
        self.sealer = sealer
        self.context = context

    def _seal(self, secret: bytes) -> str:
        return self._sealer().seal(self.context, secret)

    def _open(self, token: str) -> bytes:
        return self._sealer().open(self.context, token)

    def _sealer(self) -> Sealer:
        return self.sealer if isinstance(self.sealer, Sealer) else self.sealer()

    class Comparator(TypeDecorator.Comparator[Any]):
        def operate(self, op: Any, *other: Any, **options: Any) -> Any:
            if op in (operators.is_, operators.is_not, operators.eq, operators.ne) and other == (None,):
                return super().operate(op, *other, **options)
            raise TypeError("sealed values cannot be compared in the database")

        reverse_operate = operate

    comparator_factory = Comparator


class SealedBytes(_Sealed[bytes]):
    """Bytes that are sealed on their way into the database and opened on their way out.

    `sealer` is a Vault or Sealer, or a function that gives one when a value comes. NULL stays NULL.
    What does not open raises an exception of `vault_core`, and is never given as it is. Comparing is
    refused, except with None: equal secrets have different tokens.
    """

    cache_ok = True

    def process_bind_param(self, value: bytes | None, dialect: Dialect) -> str | None:
        with not_wrapped():
            return None if value is None else self._seal(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> bytes | None:
        return None if value is None else self._open(value)


class SealedText(_Sealed[str]):
    """As `SealedBytes`, for text, which is sealed as UTF-8."""

    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        with not_wrapped():
            return None if value is None else self._seal(encoded(value))

    def process_result_value(self, value: Any, dialect: Dialect) -> str | None:
        return None if value is None else decoded(self._open(value))


@contextmanager
def not_wrapped() -> Iterator[None]:
    """Raises errors as they are where a type binds a parameter: SQLAlchemy would wrap them in its own, which
    shows every parameter of the statement."""
    try:
        yield
    except Exception as error:
        raised = error
    else:
        return
    kind = type(raised)
    # A class of the same name, which is pickled as the error that it stands for.
    members = {"__module__": kind.__module__, "__reduce__": lambda _: raised.__reduce__()}
    unwrapped: Exception = type(kind.__name__, (DontWrapMixin, kind), members)(*raised.args)
    vars(unwrapped).update(vars(raised))
    raise unwrapped from None
