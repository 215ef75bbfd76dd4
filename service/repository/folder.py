"""The folder of models: which files are new or gone since the last scan, and what is wrong with it.

What cannot be read now is neither new nor gone, so what was served before still is. Knows paths and
the log, but opens no file and loads no model.
"""

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from service.artifact.layout import Key, Stamp, Tree, UnreadableTree, scan_tree
from service.telemetry.log import with_fields

log = logging.getLogger(__name__)


class Changes(NamedTuple):
    """The files that changed since the last scan."""

    fresh: dict[Key, Stamp]  # new, or replaced
    gone: list[Key]


class ModelFolder:
    """A folder `<name>/<version>/model.onnx`."""

    def __init__(self, models_dir: Path) -> None:
        self.path = models_dir
        self.faults: list[str] = []  # of the last scan, one sentence each

    def scan(self, known: Mapping[Key, Stamp], wanted: str | None) -> Changes:
        """Compare the folder with the files that are known. Write new faults to the log.

        It is a fault, too, if the default model of the settings, `wanted`, is not there.
        """
        try:
            tree = scan_tree(self.path)
        except UnreadableTree as exc:
            tree = Tree({}, {name for name, _ in known}, [str(exc)])
        gone = [it for it in known if it not in tree.files and it[0] not in tree.unreadable]
        names = {name for name, _ in tree.files} | tree.unreadable
        self._report([*tree.faults, *self._find_missing(wanted, names)])
        fresh = {key: stamp for key, stamp in tree.files.items() if known.get(key) != stamp}
        return Changes(fresh, gone)

    def _find_missing(self, wanted: str | None, names: set[str]) -> Iterable[str]:
        if wanted and wanted.partition("/")[0] not in names:
            known = ", ".join(sorted(names)) or "none"
            yield f"The default model '{wanted}' is not in {self.path}; there are: {known}."

    def _report(self, faults: list[str]) -> None:
        for fault in faults:
            if fault not in self.faults:
                log.warning("model folder", extra=with_fields(reason=fault))
        self.faults = faults
