"""The model file: its card, its golden tests and the checks before it is written."""
