"""The commands serve, check and explain."""
