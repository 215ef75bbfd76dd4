"""Runs models: the queue of rows, onnxruntime sessions, devices."""
