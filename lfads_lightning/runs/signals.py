"""Requests to stop: Ctrl-C, SIGTERM, and SIGUSR1, with which SLURM warns before it preempts.

Training stops at the next point where its state is consistent, saves it, and raises
KeyboardInterrupt or :class:`Preempted`; outside training there is nothing to save, and the program
ends at once.
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from lfads_lightning.notebook.interactive import in_kernel

EXIT_RESUME = 75  # EX_TEMPFAIL of sysexits.h, "try again"; here it asks to be resumed
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as in shells

# Windows has no SIGUSR1
PREEMPTIONS = tuple(
    s for s in (getattr(signal, name, None) for name in ("SIGTERM", "SIGUSR1")) if s is not None
)


class Preempted(SystemExit):
    """The program was preempted; if this is not caught, it exits with code 75."""

    def __init__(self) -> None:
        super().__init__(EXIT_RESUME)


class Interrupted(KeyboardInterrupt):
    """Ctrl-C between two updates, after everything has been saved."""


class Request:
    """Whether this process was told to stop.

    Attributes:
        signal: the first signal received; None if there was none.
        at_once: whether Ctrl-C came a second time: stop without saving.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self.at_once = False

    def error(self) -> BaseException:
        """Return the exception to raise once the state is saved."""
        return Interrupted() if self.signal == signal.SIGINT else Preempted()

    def on_signal(self, number: int, frame: FrameType | None = None) -> None:
        """Note the request; on the second Ctrl-C raise KeyboardInterrupt."""
        if number == signal.SIGINT and self.signal is not None:
            self.at_once = True
            raise KeyboardInterrupt
        self.signal = self.signal or number
        if number == signal.SIGINT and not in_kernel():  # in a notebook it is all but at once
            # not with print, which may be running at this moment
            os.write(2, b"\nCtrl-C: stops after this update and saves; again: stops at once\n")


@contextmanager
def noted() -> Iterator[Request]:
    """Note signals received inside, in the main thread, and restore the old handlers at the end.

    A signal that is ignored outside (``nohup``, a background job's Ctrl-C) stays ignored.
    """
    request = Request()
    with _handled((signal.SIGINT, *PREEMPTIONS), request.on_signal):
        yield request


def install(request: Request) -> None:
    """Set our handlers again inside :func:`noted`, if other code has replaced them."""
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, *PREEMPTIONS):
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, request.on_signal)


@contextmanager
def end_the_program() -> Iterator[None]:
    """Let SIGTERM and SIGUSR1 raise :class:`Preempted` inside, wherever the program is.

    Only the first signal counts: while exiting, the program tidies up, and keeps its exit code.
    """

    def end(number: int, frame: FrameType | None) -> None:
        if not isinstance(sys.exc_info()[1], Preempted):
            raise Preempted

    def again(lost: "sys.UnraisableHookArgs") -> None:
        if isinstance(lost.exc_value, Preempted):
            # the signal came within a destructor, where exceptions are lost: send it again
            main = threading.main_thread().ident, signal.SIGTERM
            threading.Timer(0.05, signal.pthread_kill, main).start()
        else:
            before(lost)

    before, sys.unraisablehook = sys.unraisablehook, again
    with _handled(PREEMPTIONS, end) as taken:
        try:
            yield
        except Preempted:
            for n in taken:
                signal.signal(n, signal.SIG_IGN)
            taken.clear()  # until the process is gone
            raise
        finally:
            sys.unraisablehook = before


@contextmanager
def _handled(numbers: tuple[int, ...], handler: object) -> Iterator[dict[int, object]]:
    """Set a handler; yield the previous handlers, which are restored at the end."""
    if threading.current_thread() is not threading.main_thread():
        yield {}  # Python delivers signals to the main thread only
        return
    before = {number: signal.getsignal(number) for number in numbers}
    taken: dict[int, object] = {
        n: h for n, h in before.items() if h is not signal.SIG_IGN and h is not None
    }
    for number in taken:
        signal.signal(number, handler)  # type: ignore[arg-type]
    try:
        yield taken
    finally:
        for number, old in taken.items():
            signal.signal(number, old)  # type: ignore[arg-type]
