"""Maps of masks: why the pixels of a region got their class."""
