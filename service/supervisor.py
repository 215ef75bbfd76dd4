"""What BentoML's parent process does for us: it supervises the workers more closely.

It looks for dead workers more often, kills those that hang, and takes them with it when it ends.
If our launcher started it, it ends with the launcher. Knows processes, but nothing of requests.
"""

import atexit
import logging
import os
import shutil
import signal
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from service.heartbeat import FOLDER_VARIABLE, Watch
from service.machine import AT_ONCE, end_with_parent, watch_parent
from service.telemetry.log import configure_log, with_fields

OPTIONS = {
    "check_delay": 2.0,  # seconds between looking for dead workers; BentoML waits ten
    # Whoever reaches these can run any command. BentoML would open two ports for them, without a
    # password. Nobody outside of the process reaches these, and nothing needs to.
    "endpoint": "inproc://control",
    "pubsub_endpoint": "inproc://events",
}
SUPERVISOR_VARIABLE = "SUPERVISOR_PID"
LAUNCHER_FOLDER_VARIABLE = "LAUNCHER_FOLDER"  # the launcher's temporary folder, if there is one

log = logging.getLogger(__name__)


def install_arbiter(supervisor: Any) -> None:
    """Have BentoML make its arbiter from our class. There are no settings for this."""

    class WatchfulArbiter(supervisor.Arbiter):  # type: ignore[misc]
        def __init__(self, watchers: list[Any], *args: Any, **kwargs: Any) -> None:
            super().__init__(watchers, *args, **kwargs | OPTIONS)

        def start(self, cb: Any = None) -> None:
            launcher = os.getppid()
            added = prepare_supervisor()
            for watcher in self.watchers:
                watcher.env.update(added)
            try:
                super().start(cb)
            finally:
                remove_launcher_folder(launcher)

    supervisor.Arbiter = WatchfulArbiter


def prepare_supervisor() -> dict[str, str]:
    """In the parent process, before the workers start. Return variables for their environment."""
    configure_log(lambda: None)  # this process has no metrics
    if LAUNCHER_FOLDER_VARIABLE in os.environ:
        logging.getLogger("bentoml.serve").setLevel(logging.WARNING)  # the launcher says the URL
        if sys.platform != "linux":
            watch_parent(signal.SIGTERM, os.getppid())
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=partial(end_with_parent, AT_ONCE, os.getpid()))
    added = {SUPERVISOR_VARIABLE: str(os.getpid())}
    try:
        folder = tempfile.mkdtemp(prefix="heartbeats-")
    except OSError as exc:
        reason = f"{exc}; a worker that hangs will not be replaced"
        log.warning("no heartbeats", extra=with_fields(reason=reason))
        return added
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    Watch(Path(folder)).start()
    return added | {FOLDER_VARIABLE: folder}


def end_with_supervisor() -> None:
    """In a worker: end when the supervisor ends. On Linux the kernel sees to that already."""
    supervisor = os.environ.get(SUPERVISOR_VARIABLE)
    if supervisor is not None and sys.platform != "linux":
        watch_parent(AT_ONCE, int(supervisor))


def remove_launcher_folder(launcher: int) -> None:
    """Remove the launcher's temporary folder if the launcher was killed and can't do it."""
    folder = os.environ.get(LAUNCHER_FOLDER_VARIABLE)
    if folder is not None and os.getppid() != launcher:
        shutil.rmtree(folder, ignore_errors=True)
