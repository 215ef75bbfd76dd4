"""The commands: serve, check, explain."""
