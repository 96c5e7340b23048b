"""The table of a session's keys as keywords of functions, and as the documentation's table."""

import inspect
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple, TypeVar

from lfads_lightning.data.fields import KEYS, OF_SESSION, OF_SPLIT, SPLIT_KEYS, Field
from lfads_lightning.data.kinds import DATA

Function = TypeVar("Function", bound=Callable[..., Any])


class Keyword(NamedTuple):
    """A keyword of a function that takes it by ``**``.

    Attributes:
        name: Its name.
        annotation: Its type, in Python's notation.
        doc: Its meaning, a sentence with its full stop.
        default: Its default value.
    """

    name: str
    annotation: str
    doc: str
    default: Any = None


def shows(keywords: Sequence[Keyword], title: str, closed: bool = False) -> Callable[..., Any]:
    """Show keywords in the signature and in the docstring of a function that takes them by ``**``.

    Args:
        keywords: The keywords, in the order to be shown.
        title: Title of their section in the docstring; keywords with the same meaning share an
            entry there.
        closed: Whether the function takes no others, so that the signature needs no ``**``.
    """

    def decorate(function: Function) -> Function:
        signature = inspect.signature(function)
        written = list(signature.parameters.values())
        rest = [p for p in written if p.kind is p.VAR_KEYWORD]
        shown = [
            inspect.Parameter(
                k.name, inspect.Parameter.KEYWORD_ONLY, default=k.default, annotation=k.annotation
            )
            for k in keywords
            if k.name not in signature.parameters
        ]
        named = [p for p in written if p.kind is not p.VAR_KEYWORD]
        signature = signature.replace(parameters=[*named, *shown, *([] if closed else rest)])
        function.__signature__ = signature  # type: ignore[attr-defined]
        if function.__doc__ is not None:  # python -OO has none
            function.__doc__ += _section(keywords, title)
        return function

    return decorate


def _section(keywords: Sequence[Keyword], title: str) -> str:
    names: dict[str, list[str]] = {}
    for keyword in keywords:
        names.setdefault(keyword.doc, []).append(keyword.name)
    lines = [f"        {', '.join(same)}: {doc}" for doc, same in names.items()]
    return "\n".join(["", f"    {title}:", *lines, "    "])


def keywords_of(keys: Collection[str], by_session: bool = False) -> list[Keyword]:
    """Return keys of a session as keywords."""
    return [
        Keyword(key, _annotation(KEYS[key], by_session), f"{_shape(KEYS[key])}; {KEYS[key].doc}.")
        for key in keys
    ]


def _annotation(field: Field, by_session: bool) -> str:
    one = field.kind.annotation
    if by_session:
        return f"{one} | Mapping[str, {one}] | None"
    return f"{one} | Blocks | None" if field.kind is DATA else f"{one} | None"


def _shape(field: Field) -> str:
    return f"({', '.join(field.axes)}) {field.kind.name}" if field.axes else field.kind.name


def table() -> str:
    """Return the keys of a session as a Markdown table, for the documentation."""
    rows = [
        (", ".join(f"`{split}_{name}`" for split in SPLIT_KEYS), field)
        for name, field in OF_SPLIT.items()
    ]
    rows += [(f"`{key}`", field) for key, field in OF_SESSION.items()]
    lines = [
        f"| {keys} | {'×'.join(field.axes)} | {field.kind.name} | {field.doc} |"
        for keys, field in rows
    ]
    return "\n".join(["| key | shape | values | |", "|---|---|---|---|", *lines])
