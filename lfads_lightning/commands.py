"""What all commands share: a user's mistake ends with one line, and a warning is one."""

import sys
from typing import Any, NoReturn

from lfads_lightning.config import LFADSError


def fail(error: LFADSError, status: int = 2) -> NoReturn:
    """Print an error as one line, and end the program."""
    print(f"error: {error}", file=sys.stderr)
    raise SystemExit(status) from None


def show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    """Print a warning as one line; takes the place of ``warnings.showwarning``."""
    if issubclass(category, UserWarning):  # the libraries' deprecations are not the user's
        print(f"warning: {message}", file=sys.stderr)
