"""The clock that a training is measured by, in one place so that another can be put in."""

import time
from collections.abc import Callable

now: Callable[[], float] = time.monotonic  # seconds; call it as ``clock.now()``
