"""One image from bytes to result: admission, decoding, the queue, explanations."""
