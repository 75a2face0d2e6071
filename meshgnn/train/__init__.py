"""Training, evaluation and baselines."""
