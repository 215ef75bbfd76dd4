"""Grad-CAM: its definition, and its compilation into the network as one graph."""
