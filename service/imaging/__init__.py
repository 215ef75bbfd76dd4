"""Pictures: decoding, colour modes, geometry, saliency maps and heatmaps."""
