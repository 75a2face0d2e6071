"""Runs experiments: stages, run folders, the command line. `python -m meshgnn.experiment`."""
