"""The table of a session's keys as keywords of functions, and as the README's table.

``python -m lfads_lightning.data.keywords`` prints the latter.
"""

import inspect
from collections.abc import Callable, Collection
from typing import Any, TypeVar

from lfads_lightning.data.fields import KEYS, OF_SESSION, OF_SPLIT, SPLIT_KEYS, Field
from lfads_lightning.data.kinds import DATA

Function = TypeVar("Function", bound=Callable[..., Any])


def takes_keys(
    keys: Collection[str] = tuple(KEYS), by_session: bool = False
) -> Callable[[Function], Function]:
    """Show keys in the signature and in the docstring of a function that takes them by ``**``.

    Args:
        keys: Those it takes.
        by_session: It also takes each as a mapping by session.
    """

    def decorate(function: Function) -> Function:
        signature = inspect.signature(function)
        *written, rest = signature.parameters.values()
        shown = [
            inspect.Parameter(
                key,
                inspect.Parameter.KEYWORD_ONLY,
                default=None,
                annotation=_annotation(KEYS[key], by_session),
            )
            for key in keys
            if key not in signature.parameters
        ]
        signature = signature.replace(parameters=[*written, *shown, rest])
        function.__signature__ = signature  # type: ignore[attr-defined]
        if function.__doc__ is not None:  # python -OO has none
            function.__doc__ += _keys_section(keys)
        return function

    return decorate


def _annotation(field: Field, by_session: bool) -> str:
    one = field.kind.annotation
    if by_session:
        return f"{one} | Mapping[str, {one}] | None"
    return f"{one} | Blocks | None" if field.kind is DATA else f"{one} | None"


def _keys_section(keys: Collection[str]) -> str:
    """Return the section of a docstring that says what the keys are."""
    names: dict[Field, list[str]] = {}
    for key in keys:
        names.setdefault(KEYS[key], []).append(key)
    lines = [f"{', '.join(same)}: {_shape(field)}; {field.doc}." for field, same in names.items()]
    return "\n".join(["", "    Keys of a session:", *(f"        {x}" for x in lines), "    "])


def _shape(field: Field) -> str:
    return f"({', '.join(field.axes)}) {field.kind.name}" if field.axes else field.kind.name


def table() -> str:
    """Return the rows of the README's table."""
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


if __name__ == "__main__":
    print(table())
