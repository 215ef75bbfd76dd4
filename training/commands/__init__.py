"""The commands of `python -m training`: each reads its arguments, calls one module, prints."""
