"""Log lines, metrics and timings."""
