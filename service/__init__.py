"""Serves image classifiers exported to ONNX, reasons compiled in. Knows nothing of torch."""
