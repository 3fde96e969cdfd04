"""Parses tokens into a syntax tree, before any name is looked up or called.

    chain   = sum (">>" sum)*
    sum     = product (("+" | "-") product)*
    product = signed (("*" | "/") signed)*
    signed  = ("-" | "+")* power
    power   = owned ("**" signed)?
    owned   = value ("." name "(" arguments ")")*
    value   = number unit? | string | True | False | None | name | name "(" arguments ")"
            | "(" chain ")" | "[" chain, ... "]"

The precedences are those of Python. The limits are far beyond normal use; they are needed because a
text may come from an untrusted source.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar

from jaxsched._core._writing import LONGEST
from jaxsched._text._tokens import MisreadError, Token, token_at, unquoted

T = TypeVar("T")

DEPTH = 40  # of brackets, and of methods in a row: each takes ten of Python's 1000 frames
PARTS = 1000  # calls and operators: each is compiled, and some take quadratic time
DIGITS = 309  # of an integer: no float is as large

NO_TWINS = (
    "twins of other libraries cannot be used in texts; print the twin in Python to see its text"
)

LEVELS = ((">>",), ("+", "-"), ("*", "/"))  # from the loosest binding
CONSTANTS = {"True": True, "False": False, "None": None}


class Number(NamedTuple):
    """`0.1`, `90ep`."""

    at: int
    value: int | float
    unit: str


class Constant(NamedTuple):
    """`"min"`, `True`, `None`."""

    at: int
    value: str | bool | None


class Name(NamedTuple):
    """`cosine`, a curve as an argument."""

    at: int
    name: str


class Items(NamedTuple):
    """`[a, b]`."""

    at: int
    items: tuple[Node, ...]


class Argument(NamedTuple):
    """`a`, or `name=a`."""

    at: int
    name: str | None
    value: Node


class Call(NamedTuple):
    """`name(arguments)`, with an owner if it is a method."""

    at: int
    name: str
    arguments: tuple[Argument, ...]
    owner: Node | None = None


class Signed(NamedTuple):
    """`-a`."""

    at: int
    signs: tuple[Token, ...]
    operand: Node


class Infix(NamedTuple):
    """`a * b / c`: all operators of one level, so that a long chain is not a deep tree."""

    at: int
    first: Node
    rest: tuple[tuple[Token, Node], ...]


Node = Number | Constant | Name | Items | Call | Signed | Infix


def tree(text: str) -> Node:
    """Return the syntax tree of a text, or raise a `MisreadError`."""
    if len(text) > LONGEST:
        remedy = 'Save a long table with `np.save("a.npy", values)`: `table(np.load("a.npy"))`.'
        reason = f"a text may have {LONGEST:_} characters at most, got {len(text):_}. {remedy}"
        raise MisreadError(LONGEST, reason)
    reader = _Reader(text)
    node = reader.infix()
    reader.take("end", "an operator or the end")
    return node


class _Reader:
    def __init__(self, text: str) -> None:
        self.text, self.token = text, token_at(text, 0)
        self.depth = self.parts = 0

    def take(self, kind: str, expected: str = "") -> Token:
        """Return the current token, which must be of this kind, and advance."""
        token = self.token
        if token.kind != kind:
            found = f"`{token.text[:40]}`" if token.text else "the end"
            raise MisreadError(token.at, f"expected {expected or f'`{kind}`'}, found {found}.")
        self.token = token_at(self.text, token.end)
        return token

    def infix(self, level: int = 0) -> Node:
        if level == len(LEVELS):
            return self._signed()
        at, first = self.token.at, self.infix(level + 1)
        rest: list[tuple[Token, Node]] = []
        while self.token.kind in LEVELS[level]:
            self._count()
            rest.append((self.take(self.token.kind), self.infix(level + 1)))
        return Infix(at, first, tuple(rest)) if rest else first

    def _signed(self) -> Node:
        signs: list[Token] = []
        while self.token.kind in ("-", "+"):
            signs.append(self.take(self.token.kind))
            self._count(len(signs) > 1)  # the sign of a number is part of it
        value = self._power()
        if len(signs) == 1 and isinstance(value, Number) and not value.unit:
            return value._replace(value=-value.value if signs[0].kind == "-" else value.value)
        return Signed(signs[0].at, tuple(signs), value) if signs else value

    def _power(self) -> Node:
        at, base = self.token.at, self._value()
        if self.token.kind != "**":
            return base
        self._count()
        sign = self.take("**")
        return Infix(at, base, ((sign, self._nested(self._signed)),))

    def _value(self) -> Node:
        node = self._first()
        for _ in range(DEPTH):
            if self.token.kind != ".":
                return node
            if isinstance(node, Name) and node.name in ("compat", "jaxsched", "js"):
                reason = "names are written without a module" * (node.name != "compat")
                raise MisreadError(node.at, f"{reason or NO_TWINS}.")
            self._count()
            self.take(".")
            name = self.take("name", "a method")
            node = Call(name.at, name.text, self._arguments(), node)
        raise self._too_deep()

    def _first(self) -> Node:
        token = self.token
        match token.kind:
            case "number":
                return number(self.take("number"))
            case "string":
                return Constant(token.at, unquoted(self.take("string")))
            case "name":
                return self._named(self.take("name"))
            case "[":
                self.take("[")
                return Items(token.at, self._list("]", self._inside))
            case _:
                self.take("(", "a value")
                node = self._inside()
                self.take(")")
                return node

    def _named(self, token: Token) -> Node:
        if token.text in CONSTANTS:
            return Constant(token.at, CONSTANTS[token.text])
        if self.token.kind != "(":
            return Name(token.at, token.text)
        self._count()
        return Call(token.at, token.text, self._arguments())

    def _arguments(self) -> tuple[Argument, ...]:
        self.take("(")
        return self._list(")", self._argument)

    def _argument(self) -> Argument:
        token = self.token
        if token.kind != "name" or token_at(self.text, token.end).kind != "=":
            return Argument(token.at, None, self._inside())
        self.take("name")
        self.take("=")
        return Argument(token.at, token.text, self._inside())

    def _list(self, close: str, item: Callable[[], T]) -> tuple[T, ...]:
        items: list[T] = []
        while self.token.kind != close:
            items.append(item())
            if self.token.kind != close:
                self.take(",", f"`,` or `{close}`")
        self.take(close)
        return tuple(items)

    def _inside(self) -> Node:
        """Read the expression between brackets."""
        return self._nested(self.infix)

    def _nested(self, read: Callable[[], Node]) -> Node:
        self.depth += 1
        if self.depth > DEPTH:
            raise self._too_deep()
        node = read()
        self.depth -= 1
        return node

    def _too_deep(self) -> MisreadError:
        return MisreadError(self.token.at, f"the text is nested more than {DEPTH} deep.")

    def _count(self, one: bool = True) -> None:
        self.parts += one
        if self.parts > PARTS:
            reason = f"the text has more than {PARTS} calls and operators."
            raise MisreadError(self.token.at, reason)


def number(token: Token) -> Number:
    """Return the number of a token."""
    try:
        value = _int(token) if token.text.replace("_", "").isdigit() else float(token.text)
    except ValueError:
        raise MisreadError(token.at, f"`{token.text[:40]}` is not a number.") from None
    if value == float("inf"):
        raise MisreadError(token.at, f"`{token.text[:40]}` is too large for a number.")
    return Number(token.at, value, token.unit)


def _int(token: Token) -> int:
    if len(token.text) > DIGITS:
        raise MisreadError(token.at, f"an integer of {len(token.text)} digits is too large.")
    return int(token.text)
