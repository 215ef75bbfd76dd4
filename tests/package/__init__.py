"""Tests of what people install: the wheel, its command line, and whom the server asks."""
