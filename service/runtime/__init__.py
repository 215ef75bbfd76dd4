"""Running a model: the queue of rows, onnxruntime sessions, devices."""
