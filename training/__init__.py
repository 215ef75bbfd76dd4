"""Trains networks and exports them with Grad-CAM compiled in. Knows nothing of the service."""
