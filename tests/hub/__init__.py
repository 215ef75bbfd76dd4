"""Tests of pulling and pushing models."""
