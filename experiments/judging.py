"""Objectives of encoders compared on one budget, at few annotated sections of virtual brains."""

from features.judging.study import JudgingStudy


def judging() -> JudgingStudy.Config:
    """Scratch, distance, contrastive and self-supervised encoders at 1 to 20 % annotated sections, on unseen brains."""
    return JudgingStudy.Config()
