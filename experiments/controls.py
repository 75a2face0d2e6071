"""Controls of the virtual brain: each must come out as stated."""

from features.profiles import DepthProfiles
from meshgnn.experiment.controls import Control, Controls


def _only(*names: Control) -> Controls.Config:
    return Controls.Config(names=names, profiles=DepthProfiles.Config(ends="mesh"))


def controls() -> Controls.Config:
    """All controls of the virtual brain, with what they must give (nothing to set)."""
    return Controls.Config(profiles=DepthProfiles.Config(ends="mesh"))


def permuted() -> Controls.Config:
    """Areas dealt out anew over the places: coordinates fall to chance, profiles keep their score."""
    return _only("permuted")


def uniform() -> Controls.Config:
    """One profile in all areas: profiles fall to chance."""
    return _only("uniform")


def masked() -> Controls.Config:
    """All cortex painted out: what surrounds it tells nothing."""
    return _only("masked")


def stain() -> Controls.Config:
    """Grey levels of patches and sections alone tell nothing."""
    return _only("stain")


def coordinates() -> Controls.Config:
    """Position alone does not solve an unseen brain."""
    return _only("coordinates")


def folds() -> Controls.Config:
    """The shape of the folds tells little of an unseen brain's areas."""
    return _only("folds")


def calibration() -> Controls.Config:
    """Area explains as much of the relative thickness of layers as in BigBrain."""
    return _only("calibration")
