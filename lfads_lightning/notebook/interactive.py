"""Is a person at a prompt of Python, IPython or a notebook? Warnings are then shorter."""

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from importlib.util import find_spec
from typing import Any, ParamSpec, TypeVar

from lfads_lightning.config import one_line

P = ParamSpec("P")
R = TypeVar("R")


def at_prompt() -> bool:
    """Return whether code is typed in Python, IPython or a notebook, and is not a script."""
    return hasattr(sys, "ps1")


def in_kernel() -> bool:
    """Return whether output goes to a notebook."""
    return type(sys.stderr).__module__.startswith("ipykernel")


def has_widgets() -> bool:
    """Return whether the notebook can show a graphical progress bar: ipywidgets is installed."""
    return in_kernel() and find_spec("ipywidgets") is not None


def warns_in_short(function: Callable[P, R]) -> Callable[P, R]:
    """At a prompt, print each warning of a function as one line, and once per call."""

    @wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        with _short_warnings():
            return function(*args, **kwargs)

    return wrapped


@contextmanager
def _short_warnings() -> Iterator[None]:
    if not at_prompt():
        yield
        return
    said, before = set[str](), warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        text = one_line(str(message))
        if not issubclass(category, UserWarning):
            before(message, category, *where, **more)
        elif text not in said:
            said.add(text)
            print(f"Warning: {text}", file=sys.stderr)

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = before
