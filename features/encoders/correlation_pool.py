"""Pooling by second moments: how the features of a sequence go together over its tokens."""

import torch
from torch import Tensor, nn

from features.encoders.batch_norm import BatchNorm
from meshgnn.errors import SettingError

MOST = 0.999  # of a correlation, before Fisher's z
WIDEST = 512  # features that are correlated: a file of a network must not keep a reader busy
LEAST = 1e-4  # length of a feature's deviations that counts as no change


class CorrelationPool(nn.Module):
    """[B, N, C] -> [B, C]: the mean of the tokens, plus `mapped`, a linear map of the correlations of K linear
    combinations of their features over the tokens, as Fisher's z = arctanh(r).

    A mean over frames sees how strong a feature is, not whether two of them rise and fall together, which is what
    functional connectivity is. Second-order pooling of features, here with correlations for outer products: Lin et
    al. 2015 (bilinear networks, arXiv 1504.07889); Ionescu et al. 2015 (arXiv 1509.07838). A combination that does not
    change is correlated with none. Correlations are taken in single precision also where training mixes precisions.

    Correlations differ much from one pair to another and little from subject to subject. Unless each is standardised
    over subjects, as linear models of connectivity do it too, what all subjects have in common drowns what tells them
    apart, and training starts late or not at all.

    Args:
        width: C.
        combined: K, at least 2; K (K - 1) / 2 correlations are mapped.
        standardised: whether a batch norm without weights (mean 0, variance 1 over the items of a batch; over training,
            by running moments, in eval mode) stands before the map.
        out: values of `mapped`; C if 0.
    """

    def __init__(self, width: int, combined: int, *, standardised: bool = False, out: int = 0) -> None:
        super().__init__()
        pairs = combined * (combined - 1) // 2
        self.combine = nn.Linear(width, combined, bias=False)
        self.norm = BatchNorm(pairs, affine=False) if standardised else nn.Identity()
        self.map = nn.Linear(pairs, out or width)

    def forward(self, tokens: Tensor, measured: Tensor | None = None) -> Tensor:
        """[B, N, C] -> [B, C].

        Args:
            tokens: of B items.
            measured: [B, N] bool, tokens that count; all by default.
        """
        kept = _counted(tokens, measured)
        mean = (tokens * kept[..., None]).sum(1) / kept.sum(1).clamp(min=1)[:, None]
        return mean + self.mapped(tokens, measured)

    def mapped(self, tokens: Tensor, measured: Tensor | None = None) -> Tensor:
        """[B, N, C] -> [B, out] without the mean; `measured` as in `forward`."""
        return self.map(self.norm(self.correlations(tokens, _counted(tokens, measured))))

    def correlations(self, tokens: Tensor, kept: Tensor) -> Tensor:
        """[B, K (K - 1) / 2] Fisher's z, the upper triangle row by row; `kept` [B, N] is 1 where a token counts."""
        with torch.autocast(tokens.device.type, enabled=False):
            weight = kept.float()[..., None]
            values = nn.functional.linear(tokens.float(), self.combine.weight.float())
            mean = (values * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True).clamp(min=1)
            values = nn.functional.normalize((values - mean) * weight, dim=1, eps=LEAST)
            rows, columns = torch.triu_indices(values.shape[2], values.shape[2], 1, device=values.device)
            found = (values.transpose(1, 2) @ values)[:, rows, columns]
            return torch.atanh(found.clamp(-MOST, MOST))


def _counted(tokens: Tensor, measured: Tensor | None) -> Tensor:
    """[B, N], 1 where a token counts."""
    return tokens.new_ones(tokens.shape[:2]) if measured is None else measured.to(tokens.dtype)


def check_combined(combined: int) -> None:
    """Raises SettingError unless so many combinations can be correlated."""
    if not 2 <= combined <= WIDEST:
        raise SettingError(f"<combined> must lie between 2 and {WIDEST}, got {combined}")
