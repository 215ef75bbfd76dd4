"""gRPC on a port of its own: HTTP/2 connections whose calls are requests for the application."""
