"""`python -m tests.install`: the wheel in an empty environment, and every documented command there on small input."""
