"""Networks told apart by their weights."""

import hashlib

from torch import nn


def weights_hash(module: nn.Module) -> str:
    """16 hex digits over names and values of parameters and buffers."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
