"""Objectives of encoders compared on one budget, at few annotated sections of virtual brains."""

from features.augment import PatchAugment
from features.encoders.section_cnn import SectionCNN
from features.judging.study import JudgingStudy
from features.node_data.field_patches import FieldPatches
from meshgnn.source.virtual import VirtualBrain


def judging() -> JudgingStudy.Config:
    """Scratch, distance, contrastive and self-supervised encoders at 1 to 20 % annotated sections, on unseen brains."""
    return JudgingStudy.Config()


def cells() -> JudgingStudy.Config:
    """The same on fields at 2 um, in which single cells are seen: the whole depth of the cortex, 0.2 mm wide."""
    # Without turns and shifts nothing is interpolated: on a processor these take longer than the network itself.
    still = PatchAugment.Config(rotation_deg=0, scale=0, shift=0, blur=0)
    return JudgingStudy.Config(
        brain=VirtualBrain.Config(preset="cells", hemispheres="L", subdivisions=0, cells=10, cells_mm=0.2),
        data=FieldPatches.Config(size_px=(1280, 96), augment=still),
        # A kernel of 17 px (34 um) sees a cell whole; its step is about that of a large cell.
        encoder=SectionCNN.Config(widths=(16, 32, 64, 128), stem_stride=(8, 8), depth_bands=4),
        classes=16,
    )
