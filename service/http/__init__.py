"""Requests and responses: bodies, forms, compression, content negotiation."""
