"""Fetches models from where they are, and publishes them. The server uses nothing of this."""
