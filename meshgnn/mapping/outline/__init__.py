"""Lines that the cortex and the tissue have on a section, and outlines that are made with their help."""
