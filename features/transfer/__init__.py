"""Weights learnt elsewhere: read from a local file, fitted to another shape, trained on by a schedule."""
