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
    # Turned by degrees, so high and narrow a patch would leave its field.
    augment = PatchAugment.Config(rotation_deg=0, scale=0, thickness=0.08, shift=0.015, blur=0)
    return JudgingStudy.Config(
        brain=VirtualBrain.Config(preset="cells", hemispheres="L", subdivisions=0, cells=10, cells_mm=0.2),
        data=FieldPatches.Config(size_px=(1280, 96), augment=augment),
        # A kernel of 17 px (34 um) sees a cell whole. One stage: with more, and few fields, single cells are learnt by
        # heart (on development brains, see docs/benchmarks.md).
        encoder=SectionCNN.Config(widths=(32,), stem_stride=(8, 8), depth_bands=16),
        classes=16,
    )
