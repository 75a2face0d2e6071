"""Check a surface folder before use."""

from meshgnn.experiment.validate import Validate


def validate() -> Validate.Config:
    """Describe a surface folder and what is wrong with it (--set source.folder=DIR)."""
    return Validate.Config()
