"""Measurements of masks and of their maps on held-out pictures."""
