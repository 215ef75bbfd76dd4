"""What becomes of a worker whose device fails or hangs: one more try, then room for another worker.

Knows times and how to end the process; nothing of files or sessions.
"""

import asyncio
import logging
import os
from math import inf
from time import monotonic

from service.telemetry.log import with_fields

RECOVERY_SECONDS = 60  # a device that fails again so soon is not worth another try
HUNG_AFTER_TIMEOUTS = 6  # of a request: nobody has waited for that batch for long
GRACE_SECONDS = 0.5  # for the refusals to leave
EXIT_CODE = 70  # EX_SOFTWARE of sysexits.h

log = logging.getLogger(__name__)


class Recovery:
    """Whether this worker can still be helped."""

    def __init__(self, request_timeout_seconds: float) -> None:
        self._request_timeout_seconds = request_timeout_seconds
        self._failed_at = -inf

    def may_try_again(self) -> bool:
        """Note that the device failed; if it did so lately as well, give up."""
        before, self._failed_at = self._failed_at, monotonic()
        if self._failed_at - before < RECOVERY_SECONDS:
            self.give_up(f"the device failed twice within {RECOVERY_SECONDS} s")
            return False
        return True

    def is_overdue(self, run_seconds: float) -> bool:
        """Whether a batch has been running for longer than a request may take."""
        return run_seconds > self._request_timeout_seconds

    def check_hung_run(self, name: str, run_seconds: float) -> None:
        """Give up if a batch has been running since long after anybody waits for it."""
        if run_seconds > HUNG_AFTER_TIMEOUTS * self._request_timeout_seconds:
            self.give_up(f"'{name}' has been running one batch for too long")

    def give_up(self, reason: str) -> None:
        """End the process, once what is answered has left; its supervisor starts another."""
        log.critical("giving up", extra=with_fields(reason=reason))
        asyncio.get_running_loop().call_later(GRACE_SECONDS, os._exit, EXIT_CODE)
