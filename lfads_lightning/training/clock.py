"""The clock that times training, in one place so that tests can replace it."""

import time
from collections.abc import Callable

now: Callable[[], float] = time.monotonic  # seconds; call it as ``clock.now()``
