"""Serves image classifiers from ONNX files with Grad-CAM in their graph. It never uses torch."""

__version__ = "0.2.0"
