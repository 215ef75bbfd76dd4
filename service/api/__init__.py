"""The HTTP calls: each reads a request and writes a response."""
