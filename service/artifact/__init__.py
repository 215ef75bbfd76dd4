"""The model file on disk: its path, its card and its validation."""
