"""A client for the service, for programs in Python."""
