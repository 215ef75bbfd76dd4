"""From a network to a checked model file."""
