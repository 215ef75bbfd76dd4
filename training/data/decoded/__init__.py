"""Files as arrays of pixels: decoded once, stored, or decoded where they are read."""
