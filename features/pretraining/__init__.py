"""Parts of `features.pretrain`: the recipe, what prepares a training, checkpoints, probes."""
