"""TensorBoard's event files in a run's folder."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

_WRITERS = "tensorboard.summary.writer.event_file_writer"  # module of its threads


@contextmanager
def silent_writers() -> Iterator[None]:
    """Silence errors in TensorBoard's threads: the next write raises them, and they show once."""

    def hook(told: threading.ExceptHookArgs) -> None:
        of_tensorboard = type(told.thread).__module__ == _WRITERS
        if not (of_tensorboard and issubclass(told.exc_type, OSError)):
            before(told)

    before, threading.excepthook = threading.excepthook, hook
    try:
        yield
    finally:
        threading.excepthook = before
