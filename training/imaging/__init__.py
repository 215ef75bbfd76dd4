"""Pictures as arrays: decoding, geometry, augmentation and generated test pictures."""
