"""What all commands share: the exit status, and errors and warnings in one line."""

import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, NoReturn, ParamSpec, TypeVar

from lfads_lightning.config import LFADSError, one_line
from lfads_lightning.runs.signals import EXIT_INTERRUPTED, end_the_program

P = ParamSpec("P")
R = TypeVar("R")


def command(main: Callable[P, R]) -> Callable[P, R]:
    """Turn a function into the entry point of a command.

    An :class:`LFADSError` ends the program with one line and status 2. Ctrl-C and a closed pipe
    (``| head``) end it without a traceback. SIGTERM ends it with status 75, once it has cleaned up.
    Warnings are printed on one line each.
    """

    @wraps(main)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        with warnings.catch_warnings(), _imports_not_from_here():
            warnings.showwarning = show_warning
            try:
                with end_the_program():
                    result = main(*args, **kwargs)
                sys.stdout.flush()
                return result
            except LFADSError as error:
                fail(error)
            except KeyboardInterrupt:
                raise SystemExit(EXIT_INTERRUPTED) from None
            except BrokenPipeError:
                # the interpreter flushes once more when it exits
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                raise SystemExit(1) from None

    return wrapped


@contextmanager
def _imports_not_from_here() -> Iterator[None]:
    """Keep child processes from importing modules in the working folder.

    Python does so by default (since 3.11 it can be told not to). The folder may come from somebody
    else, and contain a ``multiprocessing.py``.
    """
    before = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONSAFEPATH"]


def version_text() -> str:
    """Return the text of ``--version``."""
    import lfads_lightning

    return f"lfads-lightning {lfads_lightning.__version__}"


def fail(error: LFADSError, status: int = 2) -> NoReturn:
    """Print an error as one line, and end the program."""
    print(f"error: {error}", file=sys.stderr)
    raise SystemExit(status) from None


def show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    """Print a warning as one line; replaces ``warnings.showwarning``."""
    if issubclass(category, UserWarning):  # users need not see deprecations in libraries
        print(f"warning: {one_line(str(message))}", file=sys.stderr)
