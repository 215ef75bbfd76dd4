"""Takes one image from bytes to a result: admission, decoding, the queue, explanations."""
