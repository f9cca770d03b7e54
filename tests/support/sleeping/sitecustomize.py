"""Python imports this module at its start: pauses that also work under libfaketime.

libfaketime moves the end of a pause by the offset of the calendar, even of a pause that the calendar does not measure,
and the kernel refuses the result. https://github.com/wolfcw/libfaketime, `clock_nanosleep`
"""

import select
import time
from typing import SupportsIndex


def sleep(seconds: float | SupportsIndex) -> None:
    """Pause for so many seconds."""
    pause = float(seconds)
    if pause < 0:
        raise ValueError('sleep length must be non-negative')
    until = time.monotonic() + pause
    while (left := until - time.monotonic()) > 0:
        select.select([], [], [], left)


time.sleep = sleep
