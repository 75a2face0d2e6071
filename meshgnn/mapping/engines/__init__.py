"""Engines that fill areas in between the sections that were drawn on."""
