"""Check a surface folder before use."""

from meshgnn.experiment.validate import Validate


def validate() -> Validate.Config:
    """Tell what a surface folder holds and what is wrong with it (--set source.folder=DIR)."""
    return Validate.Config()
