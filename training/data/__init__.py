"""Labelled pictures as arrays."""
