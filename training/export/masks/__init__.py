"""From a segmentation network to a checked model file."""
