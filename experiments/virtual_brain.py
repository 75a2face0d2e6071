"""From sections to areas, whole: virtual brains, their meshes, learnt features, a graph network, a report."""

from dataclasses import replace

from features.contrastive_features import ContrastiveFeatures
from features.end_to_end.maker import EndToEndFeatures
from features.node_data.cortical_patches import CorticalPatches
from features.objectives.cross_entropy import CrossEntropy
from features.pretrain import PretrainConfig
from features.profiles import ProfileFeatures
from features.samplers.balanced import BalancedBatches
from meshgnn.config import choices
from meshgnn.data.inputs import NodeInputs
from meshgnn.experiment.section_mapping import SectionMapping
from meshgnn.nn import MLP, GraphSAGE
from meshgnn.source.cohort import StackFolders, VirtualCohort
from meshgnn.source.virtual import VirtualBrain
from meshgnn.train.fit import TrainerConfig
from reconstruct.maker import MeshFromSections
from reconstruct.steps.midsurface import ExtractMidsurface

# A quarter to a third of the sections of virtual brains are annotated: there contrast costs more than it brings. Of
# stacks of one's own often fewer are (docs/benchmarks.md, judging features).
LEARNT = ContrastiveFeatures.Config(
    pretrain=PretrainConfig(data=CorticalPatches.Config(), objective=CrossEntropy.Config())
)
MAKERS = (LEARNT, ProfileFeatures.Config())
# The mesh enters by averages over 2, 5 and 15 rounds among the inputs. Messages between neighbours on top of these cost
# 0.002 to 0.014 of macro-F1 in six studies, no interval with 0 in it (docs/benchmarks.md); they stand beside as a
# control.
NETWORK = MLP.Config()
TOGETHER = EndToEndFeatures.Config(pretrain=LEARNT.pretrain)  # encoder and network trained together
MAY = {"features": (*MAKERS, TOGETHER), "compared": (*MAKERS, TOGETHER)}
ON_STACKS = ContrastiveFeatures.Config(
    effort=2.0,
    pretrain=PretrainConfig(data=CorticalPatches.Config(), sampler=BalancedBatches.Config(rare="skip")),
)
TOGETHER_ON_STACKS = EndToEndFeatures.Config(effort=ON_STACKS.effort, pretrain=ON_STACKS.pretrain)
MAY_ON_STACKS = dict.fromkeys(MAY, (ON_STACKS, *MAKERS[1:], TOGETHER_ON_STACKS))


@choices(MAY)
def virtual_brain() -> SectionMapping.Config:
    """Sections of virtual brains -> meshes -> learnt features -> areas, judged on a brain never seen."""
    return SectionMapping.Config(
        mesh=MeshFromSections.Config(pictures=False, midsurface=ExtractMidsurface.Config(edge_mm=2.8)),
        features=MAKERS[:1],
        model=NETWORK,
        inputs=NodeInputs.Config(rounds=(2, 5, 15), rim=False, check=False),
        trainer=TrainerConfig(folds=2, epochs=50, learning_rate=1.6e-2, ema=0.9),
        variant_seeds=1,
    )


def _on(brain: VirtualBrain.Config) -> SectionMapping.Config:
    base = virtual_brain()
    return replace(base, cohort=VirtualCohort.Config(brain=brain))


@choices(MAY)
def uniform() -> SectionMapping.Config:
    """Control of the whole chain: one profile in all areas. What is left of the score is read from the folds."""
    return _on(VirtualBrain.Config(preset="quick", uniform=True))


@choices(MAY)
def shuffled() -> SectionMapping.Config:
    """Control of the whole chain: areas dealt out anew over the places, differently in every brain."""
    return _on(VirtualBrain.Config(preset="quick", shuffle=True))


@choices(MAY)
def masked() -> SectionMapping.Config:
    """Control of the whole chain: all cortex in one even grey. What is left is read from what lies around it."""
    return _on(VirtualBrain.Config(preset="quick", masked=True))


@choices(MAY)
def protocol() -> SectionMapping.Config:
    """The frozen protocol: three `default` brains trained on, eight never seen, intervals over brains."""
    base = virtual_brain()
    seeds, unseen = tuple(range(101, 104)), tuple(range(201, 209))
    return replace(
        base,
        features=(ContrastiveFeatures.Config(),),  # as it was frozen, and the network too
        model=GraphSAGE.Config(),
        compared=MAKERS[1:],
        cohort=VirtualCohort.Config(seeds=seeds + unseen, unseen=unseen, brain=VirtualBrain.Config(preset="default")),
        trainer=replace(base.trainer, epochs=120),
    )


@choices(MAY_ON_STACKS)
def sections() -> SectionMapping.Config:
    """The same on your own stacks (--set cohort.train=DIR,DIR --set cohort.unseen=DIR)."""
    return SectionMapping.Config(
        cohort=StackFolders.Config(),
        mesh=MeshFromSections.Config(),
        features=(ON_STACKS,),
        model=NETWORK,
        inputs=NodeInputs.Config(rim=False, check=False),
        trainer=TrainerConfig(folds=2),
    )
