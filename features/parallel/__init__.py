"""One network on several ranks: the same losses and gradients as in one process."""
