"""Chooses the engine for a model and keeps what was measured for it."""
