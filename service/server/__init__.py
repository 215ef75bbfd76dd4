"""The ASGI application in front of BentoML: dispatch, access, HTTP protocol, OpenTelemetry."""
