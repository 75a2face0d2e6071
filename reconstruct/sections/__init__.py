"""A table of sections made from a folder of images; `python -m reconstruct.sections`."""
