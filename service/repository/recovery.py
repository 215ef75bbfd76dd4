"""Recovers a worker whose device fails or hangs: reload the model once, then end the process.

The supervisor then starts another worker. Knows times and how to end the process, but no files or
sessions.
"""

import asyncio
import logging
import os
from math import inf
from time import monotonic

from service.telemetry.log import with_fields

RECOVERY_SECONDS = 60  # a device that fails again within this time is given up
HUNG_AFTER_TIMEOUTS = 6  # request timeouts: no client waits for that batch any more
GRACE_SECONDS = 0.5  # to send the last error responses
EXIT_CODE = 70  # EX_SOFTWARE of sysexits.h

log = logging.getLogger(__name__)


class Recovery:
    """Decides whether this worker tries again or ends."""

    def __init__(self, request_timeout_seconds: float) -> None:
        self._request_timeout_seconds = request_timeout_seconds
        self._failed_at = -inf

    def may_try_again(self) -> bool:
        """Record that the device failed; give up if it also failed a short time ago."""
        before, self._failed_at = self._failed_at, monotonic()
        if self._failed_at - before < RECOVERY_SECONDS:
            self.give_up(f"the device failed twice within {RECOVERY_SECONDS} s")
            return False
        return True

    def is_overdue(self, run_seconds: float) -> bool:
        """Return whether a batch has been running for longer than a request may take."""
        return run_seconds > self._request_timeout_seconds

    def check_hung_run(self, name: str, run_seconds: float) -> None:
        """Give up if a batch has been running for so long that no client waits for it any more."""
        if run_seconds > HUNG_AFTER_TIMEOUTS * self._request_timeout_seconds:
            self.give_up(f"'{name}' has been running one batch for too long")

    def give_up(self, reason: str) -> None:
        """End the process after the last answers are sent; its supervisor starts another."""
        log.critical("giving up", extra=with_fields(reason=reason))
        asyncio.get_running_loop().call_later(GRACE_SECONDS, os._exit, EXIT_CODE)
