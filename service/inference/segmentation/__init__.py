"""Answers and explanations of models that give each pixel a class."""
