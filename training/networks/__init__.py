"""Architectures, their weights, and the classifier built around them."""
