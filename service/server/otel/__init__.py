"""Traces and metrics of requests, for collectors that speak OpenTelemetry's protocol."""
