"""Measurements of a classifier and of its explanations on held-out pictures."""
