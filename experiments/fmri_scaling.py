"""What learning from runs takes: time, memory and reading by grid and network, and a plan for large cohorts."""

from dataclasses import replace

from features.fmri.scaling import RunScaling


def fmri_scaling() -> RunScaling.Config:
    """Steps and reading on grids of 24 to 48 voxels a side, and the hours that ABCD and HCP would take here."""
    return RunScaling.Config()


def quick() -> RunScaling.Config:
    """The same on two small grids, in a minute or two."""
    return replace(fmri_scaling(), grids=(16, 24), repeats=2)
