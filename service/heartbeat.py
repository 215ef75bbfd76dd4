"""The heartbeat of each worker, and the watch that kills a worker without one.

A worker's event loop touches a file every second. BentoML's parent process looks at the files. It
counts its own looks, not the time of day: if the machine sleeps, or the parent itself waits for
the processor, no worker is killed for it. Knows files and processes, but nothing of what a worker
does.
"""

import asyncio
import logging
import os
import threading
import time
from pathlib import Path

import psutil

from service.machine import kill
from service.telemetry.log import with_fields

FOLDER_VARIABLE = "HEARTBEAT_DIR"  # the parent process sets it for its workers
BEAT_SECONDS = 1.0
LOOK_SECONDS = 2.0
MAX_SILENT_LOOKS = 10  # 20 s: twice the default deadline of a request

log = logging.getLogger(__name__)


async def beat() -> None:
    """Touch this worker's file until cancelled. Without a parent that watches, do nothing."""
    folder = os.environ.get(FOLDER_VARIABLE)
    if folder is None:
        return
    path = Path(folder, str(os.getpid()))
    try:
        while True:
            path.touch()
            await asyncio.sleep(BEAT_SECONDS)
    except OSError as exc:
        log.warning("no heartbeat", extra=with_fields(reason=str(exc)))
    finally:
        path.unlink(missing_ok=True)  # a worker that stops is no longer watched


class Watch:
    """The watch over the workers whose heartbeats are in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._silent: dict[int, tuple[int, int]] = {}  # by process: last beat, looks since then

    def start(self) -> None:
        """Look at the files from a thread, until this process ends."""
        threading.Thread(target=self._run, name="heartbeats", daemon=True).start()

    def look(self) -> None:
        """Look at each file once. Kill the workers that were silent for too many looks."""
        for path in self._folder.iterdir():
            pid = int(path.name)
            if not is_child(pid):  # it died, and its file stayed
                path.unlink(missing_ok=True)
                self._silent.pop(pid, None)
                continue
            last, looks = self._silent.get(pid, (0, 0))
            beaten = path.stat().st_mtime_ns
            looks = looks + 1 if beaten == last else 0
            self._silent[pid] = beaten, looks
            if looks == MAX_SILENT_LOOKS:
                seconds = MAX_SILENT_LOOKS * LOOK_SECONDS
                fields = with_fields(pid=pid, seconds=seconds, action="kill and replace it")
                log.error("worker hangs", extra=fields)
                kill(pid)

    def _run(self) -> None:
        while True:
            time.sleep(LOOK_SECONDS)
            try:
                self.look()
            except OSError as exc:  # a file went away between two calls
                log.warning("heartbeats not read", extra=with_fields(reason=str(exc)))


def is_child(pid: int) -> bool:
    """Return whether this process is the parent of the process, which may have ended."""
    try:
        return bool(psutil.Process(pid).ppid() == os.getpid())
    except psutil.NoSuchProcess:
        return False
