"""Serves image classifiers exported to ONNX, with the reasons compiled in. Knows nothing of torch."""
