"""The model file on disk: where it is, its card, and its validation."""
