"""The ASGI application in front of BentoML: routes, middleware, HTTP protocol, tracing."""
