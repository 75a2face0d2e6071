"""What trained networks look at."""

from features.explain.experiment import TraitExplanation


def explain() -> TraitExplanation.Config:
    """Which areas the volume networks of a finished run of traits look at (--set run=RUN)."""
    return TraitExplanation.Config()
