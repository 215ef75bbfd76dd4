"""Plots and Markdown pages about a model."""
