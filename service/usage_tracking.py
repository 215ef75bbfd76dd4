"""Turns off the reports that BentoML and onnxruntime send to their makers.

onnxruntime would also write an identifier of the machine to the home folder.
"""

import os

OFF = {"BENTOML_DO_NOT_TRACK": "True", "ORT_DISABLE_TELEMETRY": "1"}


def turn_off_usage_tracking() -> None:
    """Set the variables for this process and its children. onnxruntime must not be loaded yet."""
    os.environ.update(OFF)
