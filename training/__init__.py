"""Trains networks and exports them with Grad-CAM compiled in. Knows nothing of the service."""

__version__ = "0.2.0"
