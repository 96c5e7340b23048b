"""Which trials and which units: conditions such as ``success and rt < 600``, on named columns.

The grammar, which cannot express programs: ::

    condition:  both {"or" both}
    both:       one {"and" one}
    one:        "not" one | "(" condition ")" | comparison
    comparison: value {("==" | "!=" | "<" | "<=" | ">" | ">=") value}
                | value ["not"] "in" "[" constant {"," constant} "]"
    value:      column | constant
    column:     a name of letters, digits, _ and ., or any name between `backquotes`
    constant:   a number | 'text' | "text" | true | false

A column by itself is true where it is True or a number other than 0. With a missing number (NaN)
only ``!=`` is true.
"""

import operator
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, NoReturn

import numpy as np

from lfads_lightning.commands import listed, nearest
from lfads_lightning.config import LFADSError
from lfads_lightning.recordings.names import meant

MOST_LETTERS, MOST_PARENTHESES = 10_000, 50
_TOKEN = re.compile(
    r"\s*(?:(?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))"
    r"|(?P<text>'[^']*'|\"[^\"]*\")"
    r"|(?P<column>`[^`]+`)"
    r"|(?P<mark>==|!=|<=|>=|<|>|\(|\)|\[|\]|,)"
    r"|(?P<word>[^\W\d][\w.]*))"
)
_ORDERS: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
_WORDS = ("and", "or", "not", "in")
_REMEDIES = {
    "=": "write == for equality",
    "&": "write and",
    "|": "write or",
    "!": "write not, or !=",
    "~": "write not",
}


class _Token(NamedTuple):
    kind: str  # number, text, column, mark, word; end
    text: str


class _Value(NamedTuple):
    """A column, or a constant, which has no axis."""

    name: str  # as it was written
    values: np.ndarray


def chosen(
    text: str, columns: Mapping[str, np.ndarray], n: int, option: str, source: str
) -> np.ndarray:
    """Return the rows for which a condition is true.

    Args:
        text: the condition.
        columns: (n,) each, by name.
        n: number of rows.
        option: the option that gives the condition, for messages.
        source: the recording, for messages.

    Returns:
        (n,) booleans.

    Raises:
        LFADSError: it is not a condition, names an unknown column, or compares numbers with texts.

    >>> columns = {"side": np.array(["left", "right", "left"]), "rt": np.array([300.0, 200, 700])}
    >>> chosen("side == 'left' and not rt > 600", columns, 3, "where", "day1.nwb").tolist()
    [True, False, False]
    """
    return np.broadcast_to(_Reader(text, columns, option, source).read(), n).copy()


def names_in(text: str) -> set[str]:
    """Return the columns named in a condition, in lower case; empty if it is not a condition."""
    found = {(m.lastgroup, m[m.lastgroup]) for m in _TOKEN.finditer(text) if m.lastgroup}
    return {
        word.strip("`").lower()
        for kind, word in found
        if kind in ("word", "column") and word not in _WORDS
    }


class _Reader:
    """Reads a condition from left to right and evaluates it on the way."""

    def __init__(
        self, text: str, columns: Mapping[str, np.ndarray], option: str, source: str
    ) -> None:
        self.text, self.columns = text, columns
        self.option, self.source = option, source
        self.at, self.depth = 0, 0
        if len(text) > MOST_LETTERS:
            self.refuse(f"has {len(text)} letters", f"at most {MOST_LETTERS}")
        self.tokens = self._tokens()

    def read(self) -> np.ndarray:
        """Return the rows for which it is true: (n,) booleans, or a single one."""
        if self._next.kind == "end":
            self.refuse("is empty", "a condition, such as success and rt < 600")
        found = self._condition()
        if self._next.kind != "end":
            self._unexpected("and, or, or the end")
        return found

    def refuse(self, found: str, expected: str) -> NoReturn:
        """Raise the error."""
        text = " ".join(self.text.split())
        shown = text if len(text) <= 100 else text[:97] + "..."
        raise LFADSError(f'{self.source}: {self.option} "{shown}" {found}; expected {expected}')

    def _tokens(self) -> list[_Token]:
        found, at, end = [], 0, len(self.text.rstrip())
        while at < end:
            match = _TOKEN.match(self.text, at)
            if match is None:
                rest = self.text[at:].lstrip()
                remedy = _REMEDIES.get(rest[0], "names, numbers, 'texts' and comparisons")
                self.refuse(f"is not understood from {rest[:20]!r} on", remedy)
            assert match.lastgroup is not None
            found.append(_Token(match.lastgroup, match[match.lastgroup]))
            at = match.end()
        return [*found, _Token("end", "")]

    @property
    def _next(self) -> _Token:
        return self.tokens[self.at]

    def _taken(self, *texts: str) -> str | None:
        """Take the next word or mark if it is one of these."""
        token = self._next
        if token.kind in ("word", "mark") and token.text in texts:
            self.at += 1
            return token.text
        return None

    def _unexpected(self, expected: str) -> NoReturn:
        what = f"ends after {self._before()!r}" if self._next.kind == "end" else (
            f"has {self._next.text!r} after {self._before()!r}"
        )  # fmt: skip
        self.refuse(what, expected)

    def _before(self) -> str:
        return self.tokens[self.at - 1].text if self.at else ""

    def _condition(self) -> np.ndarray:
        found = self._both()
        while self._taken("or"):
            found = found | self._both()
        return found

    def _both(self) -> np.ndarray:
        found = self._one()
        while self._taken("and"):
            found = found & self._one()
        return found

    def _one(self) -> np.ndarray:
        denied = False
        while self._taken("not"):
            denied = not denied
        if self._taken("("):
            self.depth += 1
            if self.depth > MOST_PARENTHESES:
                self.refuse(f"has over {MOST_PARENTHESES} parentheses in each other", "fewer")
            found = self._condition()
            if not self._taken(")"):
                self._unexpected("a closing parenthesis")
            self.depth -= 1
        else:
            found = self._comparison()
        return ~found if denied else found

    def _comparison(self) -> np.ndarray:
        left = self._value()
        if self._taken("in"):
            return self._among(left)
        if self._next == _Token("word", "not") and self.tokens[self.at + 1].text == "in":
            self.at += 2
            return ~self._among(left)
        found = None
        while (order := self._taken(*_ORDERS)) is not None:
            right = self._value()
            one = self._compared(left, order, right)
            found = one if found is None else found & one
            left = right
        return self._truth(left) if found is None else found

    def _value(self) -> _Value:
        token = self._next
        if token.kind in ("end", "mark") or (token.kind == "word" and token.text in _WORDS):
            self._unexpected("a column, a number or a 'text'")
        self.at += 1
        if token.kind == "number":
            return _Value(token.text, np.array(float(token.text)))
        if token.kind == "text":
            return _Value(token.text, np.array(token.text[1:-1]))
        if token.kind == "word" and token.text.lower() in ("true", "false"):
            return _Value(token.text, np.array(token.text.lower() == "true"))
        name = meant(self.columns, token.text.strip("`"))
        if name not in self.columns:
            self.refuse(
                f"names {name}, which is no column{nearest(name, self.columns)}",
                f"one of {listed(self.columns, 50)}"
                if self.columns
                else "columns, of which the recording has none",
            )
        return _Value(name, np.asarray(self.columns[name]))

    def _compared(self, left: _Value, order: str, right: _Value) -> np.ndarray:
        if _is_text(left) != _is_text(right):
            text, number = (left, right) if _is_text(left) else (right, left)
            self.refuse(
                f"compares {number.name}, which holds numbers, with {text.name}, which holds texts",
                f"two of a kind{self._some_of(left, right)}",
            )
        if _is_text(left) and order not in ("==", "!="):
            self.refuse(
                f"has {order} between texts ({left.name}, {right.name})", "== or !=, or numbers"
            )
        return np.asarray(_ORDERS[order](left.values, right.values))

    def _some_of(self, *values: _Value) -> str:
        """Show what a column holds."""
        for value in values:
            if value.values.ndim:
                found = np.unique(value.values)[:5].tolist()
                return f"; {value.name} holds {', '.join(map(repr, found))}"
        return ""

    def _among(self, left: _Value) -> np.ndarray:
        if not self._taken("["):
            self._unexpected("a list in brackets, as in [1, 2]")
        found = np.zeros(left.values.shape, bool)
        while not self._taken("]"):
            right = self._value()
            if right.values.ndim:
                self.refuse(f"has the column {right.name} in a list", "numbers or 'texts' there")
            found = found | self._compared(left, "==", right)
            if not self._taken(",") and self._next.text != "]":
                self._unexpected("a comma or a closing bracket")
        return found

    def _truth(self, value: _Value) -> np.ndarray:
        if _is_text(value):
            self.refuse(
                f"has the texts of {value.name} by themselves",
                f"a comparison, as in {value.name} == 'text'{self._some_of(value)}",
            )
        with np.errstate(invalid="ignore"):
            return np.asarray((value.values != 0) & ~np.isnan(value.values.astype(float)))


def _is_text(value: _Value) -> bool:
    return value.values.dtype.kind == "U"
