"""The model file on disk: its place, its card, and whether it is valid."""
