"""A small U-Net that sees every place at two scales. B batch, C channels, K classes, H and W pixels."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from features.local_models.settings import HALVED

APART = 4  # coarse pixels are so many fine ones wide
DEPTH = HALVED
NAMED = 3  # classes that are no area: glass, white matter, other tissue
LEAST = 1e-3  # probability that a hint leaves to what it does not name


class Block(nn.Sequential):
    """Two convolutions with batch norm. Norms over a single image (group, instance) would take away what tells a crop
    that lies within an area from one that lies outside, and would make a tile depend on its size."""

    def __init__(self, entering: int, leaving: int) -> None:
        parts: list[nn.Module] = []
        for width in (entering, leaving):
            parts += [nn.Conv2d(width, leaving, 3, padding=1), nn.BatchNorm2d(leaving), nn.SiLU()]
        super().__init__(*parts)


class Encoder(nn.Module):
    """Maps at full, half, a quarter and an eighth of the resolution."""

    def __init__(self, channels: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(a, b) for a, b in zip((channels, *widths), widths))

    def forward(self, image: Tensor) -> list[Tensor]:
        maps: list[Tensor] = []
        for block in self.blocks:
            image = block(F.avg_pool2d(image, 2) if maps else image)
            maps.append(image)
        return maps


class TwoScaleUNet(nn.Module):
    """U-Net (Ronneberger et al. 2015) whose deepest maps are joined with those of a coarse image of the same centre.

    Args:
        channels: of both images.
        classes: K.
        width: channels of the first maps.
    """

    def __init__(self, channels: int, classes: int, width: int = 12) -> None:
        super().__init__()
        self.classes = classes
        widths = (width, 2 * width, 3 * width, 4 * width)
        self.fine, self.coarse = Encoder(channels, widths), Encoder(channels, widths)
        self.joined = Block(2 * widths[-1], widths[-1])
        self.up = nn.ModuleList(Block(widths[k] + widths[k - 1], widths[k - 1]) for k in (3, 2, 1))
        self.last = nn.Conv2d(width, classes, 1)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Logits [B, K, H, W].

        Args:
            fine: [B, C, H, W], H and W multiples of `DEPTH`.
            coarse: [B, C, h, w] pixels `APART` times as wide with the same centre, multiples of `DEPTH`, covering the
                fine image at least.
        """
        maps = self.fine(fine)
        deep = maps.pop()
        around = F.interpolate(self.coarse(coarse)[-1], scale_factor=APART, mode="bilinear", align_corners=False)
        top, left = ((around.shape[k] - deep.shape[k]) // 2 for k in (2, 3))
        around = around[..., top : top + deep.shape[2], left : left + deep.shape[3]]
        out = self.joined(torch.cat([deep, around], 1))
        for block in self.up:
            wide = F.interpolate(out, scale_factor=2, mode="bilinear", align_corners=False)
            out = block(torch.cat([wide, maps.pop()], 1))
        return self.last(out)


class HintedUNet(nn.Module):
    """A hint, with as much of its areas as the image bears out: where cortex is, and where the hint only thinks so.

    Which area a place belongs to stays as the hint says. The network sees the image without the hint and answers with
    one log-odds per pixel, the same for all areas, which moves probability between them and none of them. What two
    sections teach of the areas themselves did not carry over to those between (docs/benchmarks.md).

    Args:
        channels: of both images; the last ones of the fine image are 2 p - 1 of the areas' probabilities.
        areas: how many of them.
        width: channels of the first maps.
        trust: power of what is learnt beside the hint when predicting; training has 1.
    """

    def __init__(self, channels: int, areas: int, width: int = 12, trust: float = 1.0) -> None:
        super().__init__()
        self.areas, self.trust, self.classes = areas, trust, NAMED + areas
        self.image = TwoScaleUNet(channels - areas, 1, width)
        for parameter in self.image.last.parameters():
            nn.init.zeros_(parameter)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Logits [B, NAMED + areas, H, W]; see `TwoScaleUNet.forward`."""
        odds = self.image(fine[:, : -self.areas], coarse[:, : -self.areas])
        share = (fine[:, -self.areas :] + 1) / 2
        rest = (1 - share.sum(1, keepdim=True)).clamp(LEAST, 1)
        never = rest.new_full((1, 1, 1, 1), LEAST).expand(len(fine), NAMED - 1, *rest.shape[2:])
        hint = torch.cat([never, rest, share.clamp(LEAST, 1)], 1).log()
        return torch.cat([hint[:, :NAMED], hint[:, NAMED:] + (1.0 if self.training else self.trust) * odds], 1)


def segmentation_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy plus 1 less the mean soft Dice over the classes that the batch shows (Milletari et al. 2016).

    Args:
        logits: [B, K, H, W].
        target: [B, H, W] classes; -1 is not counted.
    """
    counted = target >= 0
    known = torch.where(counted, target, 0)
    entropy = F.cross_entropy(logits, torch.where(counted, target, -100), ignore_index=-100)
    chance = logits.softmax(1) * counted[:, None]
    true = F.one_hot(known, logits.shape[1]).movedim(-1, 1) * counted[:, None]
    both, either = (chance * true).sum((0, 2, 3)), (chance + true).sum((0, 2, 3))
    shown = true.sum((0, 2, 3)) > 0
    dice = (2 * both[shown] + 1) / (either[shown] + 1)
    return entropy + 1 - (dice.mean() if shown.any() else logits.sum() * 0)
