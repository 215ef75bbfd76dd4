"""ONNX graphs: export, batch-norm fusion, quantization and sessions."""
