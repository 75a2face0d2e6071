"""The loss of classes."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from meshgnn.config import Config as BaseConfig
from meshgnn.errors import SettingError


@dataclass(frozen=True, kw_only=True)
class Loss(BaseConfig):
    """Cross-entropy with logits shifted by the log class frequency (Menon et al. 2021, eq. 10).

    Args:
        balance: 0 treats every node (or brain) alike, 1 every class alike.
        smoothing: label smoothing.
    """

    balance: float = 0.5
    smoothing: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.smoothing < 1 or self.balance < 0:
            raise SettingError("<smoothing> must lie in [0, 1) and <balance> not be negative")

    def __call__(self, logits: Tensor, labels: Tensor, log_frequency: Tensor) -> Tensor:
        """Logits [N, K], labels [N], log class frequency [K] -> scalar."""
        return F.cross_entropy(logits + self.balance * log_frequency, labels, label_smoothing=self.smoothing)


def log_frequency(labels: Tensor, n_classes: int) -> Tensor:
    """Log frequency [K] of the classes among labels [N]; a class that does not occur counts as half a case."""
    count = labels.bincount(minlength=n_classes).float()
    return (count.clamp(min=0.5) / count.sum()).log()
