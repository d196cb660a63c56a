"""SQLAlchemy: columns that hold tokens, and attributes that hold secrets.

::

    class Account(Base):
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)
        api_key: Mapped[str | None] = mapped_column(SealedText(vault, Context("user-secret", name="account.api_key")))

Every value of such a column has one context, so a token may be moved from row to row. Where the
context needs the row, as its owner, keep a column of text and call `vault.seal` and `vault.open`.
Works in synchronous and asynchronous sessions; a call takes microseconds and does no I/O.

Only values are sealed. An expression, as `literal("…")`, `func.lower(…)` or `INSERT … SELECT`, is computed
by the database, past the type, and would store its result in clear. Importing this module has every
engine refuse a statement that assigns one to such a column; so is a default of SQL. Other columns of the
same context may be assigned.

Make engines with `create_engine(..., hide_parameters=True)`: without it, SQLAlchemy's errors and logs
show a statement's parameters, among them tokens, and secrets where another column's type fails.
Errors of these types show none.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import (
    BindParameter,
    Column,
    ColumnElement,
    Engine,
    Insert,
    Null,
    Text,
    TypeCoerce,
    TypeDecorator,
    Update,
    event,
    text,
)
from sqlalchemy.exc import DontWrapMixin
from sqlalchemy.sql import operators, visitors
from vault_core import Context, Sealer
from vault_core.frameworks.reading import Reads, read
from vault_core.text import decoded, encoded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Connection, Dialect

__all__ = ["SealedBytes", "SealedText", "not_wrapped"]

T = TypeVar("T")


class _Sealed(TypeDecorator[T]):
    impl = Text
    cache_ok = True

    def __init__(self, sealer: Sealer | Callable[[], Sealer], context: Context, *, reads: Reads = ()) -> None:
        super().__init__()
        self.sealer = sealer
        self.context = context
        self.reads = tuple(reads)

    def _seal(self, secret: bytes) -> str:
        return self._sealer().seal(self.context, secret)

    def _open(self, token: str) -> bytes:
        return read(self._sealer(), self.context, self.reads, token)

    def _sealer(self) -> Sealer:
        return self.sealer if isinstance(self.sealer, Sealer) else self.sealer()

    class Comparator(TypeDecorator.Comparator[Any]):
        def operate(self, op: Any, *other: Any, **options: Any) -> Any:
            if op in (operators.is_, operators.is_not, operators.eq, operators.ne) and len(other) == 1:
                # With itself, a column is compared where SQLAlchemy looks it up in a dictionary.
                if other[0] is None or isinstance(other[0], ColumnElement) and hash(other[0]) == hash(self.expr):
                    return super().operate(op, *other, **options)
            raise TypeError("sealed values cannot be compared in the database")

        reverse_operate = operate

    comparator_factory = Comparator


class SealedBytes(_Sealed[bytes]):
    """Bytes that are sealed on their way into the database and opened on their way out.

    `sealer` is a Vault or Sealer, or a function that gives one when a value comes. NULL stays NULL.
    What does not open raises an exception of `vault_core`, and is never given as it is. Comparing is
    refused, except with None: equal secrets have different tokens.

    While `vault migrate` moves the column to tokens, `reads` are the functions that read what is not
    a token yet: see `vault_core.frameworks.reading`.
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


@event.listens_for(Engine, "before_execute")
def _refuse_expressions(
    connection: Connection, statement: Any, multiparams: object, params: object, options: object
) -> None:
    if not getattr(statement, "is_dml", False) and not getattr(statement, "_independent_ctes", ()):
        # A SELECT may hold one in a common table expression.
        if not getattr(statement, "is_select", False) or not _has_dml(statement):
            return
    for part in visitors.iterate(statement):
        if isinstance(part, Insert | Update):
            for column, value in _assigned(part):
                if isinstance(column.type, _Sealed) and not _is_sealed(value, column.type):
                    raise _Refused(
                        f"{column.name} takes values and no expressions: the database computes those, and cannot seal"
                    )


class _Refused(DontWrapMixin, TypeError):
    """A TypeError that SQLAlchemy raises as it is."""


def _has_dml(statement: Any) -> bool:
    return any(isinstance(part, Insert | Update) for part in visitors.iterate(statement))


def _assigned(statement: Any) -> Iterator[tuple[Any, Any]]:
    """Each column that a statement assigns to, with what it is."""
    columns = statement.table.c

    def pairs(values: Any) -> Iterator[tuple[Any, Any]]:
        for key, value in values.items() if hasattr(values, "items") else values:
            column = columns.get(key) if isinstance(key, str) else key
            if column is not None and hasattr(column, "type"):
                yield column, value

    yield from pairs(statement._values or {})
    yield from pairs(getattr(statement, "_ordered_values", None) or ())
    for several in statement._multi_values or ():
        for row in several:
            yield from pairs(row if hasattr(row, "items") else zip(columns.keys(), row, strict=False))
    if (selected := getattr(statement, "select", None)) is not None:
        yield from pairs(zip(statement._select_names or columns.keys(), selected.selected_columns, strict=False))
    conflict = getattr(statement, "_post_values_clause", None)
    # Of SQLite and PostgreSQL; of MySQL.
    for name in ("update_values_to_set", "update"):
        yield from pairs(getattr(conflict, name, None) or {})
    for column in columns:
        on_update = column.onupdate if isinstance(statement, Update) else column.default
        for default in (on_update, column.server_default if isinstance(statement, Insert) else None):
            if default is not None and (getattr(default, "is_clause_element", False) or default.is_server_default):
                yield column, text("a default that the database computes")


def _is_sealed(value: Any, of: _Sealed[Any]) -> bool:
    """Whether a value is a parameter of that type, NULL, or a column of the same context."""
    if isinstance(value, TypeCoerce):
        return isinstance(value.type, _Sealed) and value.type.context == of.context and _is_sealed(value.clause, of)
    if not hasattr(value, "__clause_element__") and not isinstance(value, visitors.Visitable):
        return True
    element = value.__clause_element__() if hasattr(value, "__clause_element__") else value
    if isinstance(element, Null):
        return True
    same = isinstance(element.type, _Sealed) and element.type.context == of.context if hasattr(element, "type") else False
    if isinstance(element, BindParameter):
        # One without a type of its own gets that of the column.
        return same or element.type._isnull
    return same and isinstance(element, Column)
