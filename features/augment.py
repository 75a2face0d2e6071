"""Changes of patches that leave their class as it is, drawn from (seed, step, place in the joint batch) alone."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from features.augment_kernels import change
from meshgnn.config import Config as BaseConfig
from meshgnn.errors import SettingError


def random_numbers(seed: int, step: int, view: int) -> np.random.Generator:
    """What the changes of one view of one joint batch are drawn from."""
    return np.random.default_rng((abs(seed), step, 0xA6, *([view] if view else [])))


_LEAST = 1e-3  # of values that are raised to a power
_AT_ONCE = 1 << 22  # pixels changed together by torch on the CPU
_SHARED = 1 << 20  # pixels from which threads share a batch


def _blurred(patches: Tensor, sd_px: Tensor, widest: float) -> Tensor:
    """[B, rows, columns], each patch blurred by a Gaussian of its own sd, along rows and columns in turn."""
    reach = min(max(1, round(3 * widest)), min(patches.shape[1:]) - 1)
    at = torch.arange(-reach, reach + 1, device=patches.device)
    kernel = torch.exp(-0.5 * (at / sd_px.clamp(min=1e-3)[:, None]) ** 2)
    kernel = kernel / kernel.sum(1, keepdim=True)
    count = len(patches)
    edged = F.pad(patches[None], (reach, reach, reach, reach), mode="replicate")
    down = F.conv2d(edged, kernel.view(count, 1, -1, 1), groups=count)
    return F.conv2d(down, kernel.view(count, 1, 1, -1), groups=count)[0]


def _matrices(draw: dict[str, Tensor]) -> Tensor:
    """[B, 2, 3] where changed patches come from: places from -1 to 1 of the new ones to those of the old."""
    cosine, sine = draw["angle"].cos() * draw["scale"], draw["angle"].sin() * draw["scale"]
    matrix = torch.stack(
        [
            torch.stack([cosine * draw["flip"], -sine, draw["shift"][:, 0]], 1),
            torch.stack([sine * draw["flip"], cosine, draw["shift"][:, 1]], 1),
        ],
        1,
    )
    if "thickness" in draw:  # rows of the patch as it is seen
        matrix = torch.cat(
            [matrix[:, :, :1], matrix[:, :, 1:2] * draw["thickness"][:, None, None], matrix[:, :, 2:]], 2
        )
    return matrix


class PatchAugment:
    """Rotation, flip, scale and shift in one interpolation, then blur, gamma, stain and uneven staining.

    Patches are taken as optical density: 0 is glass, so that a factor is a change of staining strength.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            rotation_deg: uniform within +- this; 180 for patches that are not upright.
            flip: mirror along the cortex, half of the time.
            scale: uniform within 1 +- this. Cortical thickness tells areas apart: keep it small.
            thickness: uniform within 1 +- this: a stretch along the rows alone, which are the depth of the cortex in
                upright patches.
            elastic_px: sd of displacements, in pixels of the patch, of a grid of 4 x 4 points that is smoothed over it.
            shift: uniform within +- this share of the side, rows and columns.
            stain: sd of the log of a factor. A thicker section is such a factor too (Lambert-Beer).
            gamma: sd of the log of an exponent.
            gradient: sd of a linear change of the factor from side to side, along rows and columns.
            blur: largest share of a 3 x 3 binomial blur that is mixed in.
            blur_px: a Gaussian blur whose sd is uniform from 0 to this many pixels, for patches of many pixels.
        """

        rotation_deg: float = 12.0
        flip: bool = True
        scale: float = 0.08
        thickness: float = 0.0
        elastic_px: float = 0.0
        shift: float = 0.04
        stain: float = 0.10
        gamma: float = 0.08
        gradient: float = 0.05
        blur: float = 0.5
        blur_px: float = 0.0

        def __post_init__(self) -> None:
            values = (
                self.rotation_deg, self.scale, self.shift, self.stain, self.gamma, self.gradient, self.blur,
                self.thickness, self.elastic_px, self.blur_px,
            )  # fmt: skip
            if min(values) < 0 or max(self.scale, self.thickness) >= 1 or self.blur > 1:
                raise SettingError(
                    "<rotation_deg>, <scale>, <thickness>, <elastic_px>, <shift>, <stain>, <gamma>, <gradient>, <blur> "
                    "and <blur_px> must not be negative, <scale> and <thickness> be below 1, <blur> at most 1"
                )

        def build(self) -> "PatchAugment":
            return PatchAugment(self)

    def __init__(self, config: Config) -> None:
        self.config = config

    def __call__(self, patches: Tensor, *, seed: int, step: int, places: slice, batch: int, view: int = 0) -> Tensor:
        """
        Args:
            patches: [B, rows, columns] optical density.
            seed, step: what the changes are drawn from.
            places: of these patches in the joint batch of all ranks.
            batch: size of the joint batch.
            view: which view of the same patches; each is changed in its own way.
        """
        draw = self.draws(seed, step, batch, view)
        mine = {name: torch.from_numpy(values[places]).to(patches.device) for name, values in draw.items()}
        square = patches.shape[1] == patches.shape[2]
        if patches.device.type == "cpu" and patches.dtype == torch.float32 and square and self.config.gamma:
            return self._compiled(patches, mine)
        # Patches are changed one by one where all their grids at a time would fill the memory.
        many = max(1, _AT_ONCE // (patches.shape[1] * patches.shape[2]))
        if patches.device.type != "cpu" or len(patches) <= many:
            return self._by_torch(patches, mine)
        out = torch.empty_like(patches)
        for k in range(0, len(patches), many):
            part = {name: values[k : k + many] for name, values in mine.items()}
            out[k : k + many] = self._by_torch(patches[k : k + many], part)
        return out

    def _by_torch(self, patches: Tensor, draw: dict[str, Tensor]) -> Tensor:
        return self._stain(self._moved(patches, draw), draw)

    def _compiled(self, patches: Tensor, draw: dict[str, Tensor]) -> Tensor:
        """The same on the CPU, patch by patch: torch takes over 20 times as long there (docs/benchmarks.md)."""
        seen = np.ascontiguousarray(patches.detach().numpy())
        out, matrices = np.empty_like(seen), _matrices(draw).numpy()
        values = {name: value.numpy() for name, value in draw.items()}

        def one(k: int) -> None:
            change(
                seen[k], out[k], matrix=matrices[k], bend=values["elastic"][k] if "elastic" in values else None,
                share=float(values["blur"][k]), sd_px=float(values["blur_px"][k]) if "blur_px" in values else 0.0,
                widest_px=self.config.blur_px, gamma=float(values["gamma"][k]), factor=float(values["stain"][k]),
                slope=values["gradient"][k], least=_LEAST,
            )  # fmt: skip

        threads = min(torch.get_num_threads(), len(seen)) if seen.size >= _SHARED else 1
        if threads == 1:
            for k in range(len(seen)):
                one(k)
        else:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(one, range(len(seen))))
        return torch.from_numpy(out)

    def draws(self, seed: int, step: int, batch: int, view: int = 0) -> dict[str, NDArray[np.float32]]:
        """One row per patch of the joint batch."""
        c, rng = self.config, random_numbers(seed, step, view)
        uniform = rng.uniform(-1, 1, (batch, 6))
        normal = rng.standard_normal((batch, 4)).clip(-2.5, 2.5)
        drawn = {
            "angle": np.radians(c.rotation_deg) * uniform[:, 0],
            "flip": np.where(uniform[:, 1] < 0, -1, 1) if c.flip else np.ones(batch),
            "scale": 1 + c.scale * uniform[:, 2],
            "shift": 2 * c.shift * uniform[:, 3:5],
            "blur": c.blur * np.abs(uniform[:, 5]),
            "stain": np.exp(c.stain * normal[:, 0]),
            "gamma": np.exp(c.gamma * normal[:, 1]),
            "gradient": c.gradient * normal[:, 2:4],
        }
        # Drawn after all others, so that these stay what they are.
        if c.thickness:
            drawn["thickness"] = 1 + c.thickness * rng.uniform(-1, 1, batch)
        if c.elastic_px:
            drawn["elastic"] = c.elastic_px * rng.standard_normal((batch, 2, 4, 4)).clip(-2.5, 2.5)
        if c.blur_px:
            drawn["blur_px"] = c.blur_px * rng.uniform(0, 1, batch)
        return {name: np.ascontiguousarray(values, np.float32) for name, values in drawn.items()}

    def _moved(self, patches: Tensor, draw: dict[str, Tensor]) -> Tensor:
        """Without any other move patches are mirrored as they are: nothing is interpolated."""
        c = self.config
        if c.rotation_deg or c.scale or c.shift or c.thickness or c.elastic_px:
            return self._move(patches, draw)
        return torch.where(draw["flip"][:, None, None] < 0, patches.flip(2), patches) if c.flip else patches

    def _move(self, patches: Tensor, draw: dict[str, Tensor]) -> Tensor:
        # Places run from -1 to 1 along either side: what a turn carries from one side to the other is measured anew.
        tall = patches.shape[1] / patches.shape[2]
        turned = torch.tensor([[1, tall, 1], [1 / tall, 1, 1]], dtype=patches.dtype, device=patches.device)
        matrix = _matrices(draw) * turned
        grid = F.affine_grid(matrix, [len(patches), 1, *patches.shape[1:]], align_corners=False)
        if "elastic" in draw:
            bend = F.interpolate(draw["elastic"], patches.shape[1:], mode="bicubic", align_corners=True)
            sides = torch.tensor(
                [patches.shape[2] / 2, patches.shape[1] / 2], dtype=patches.dtype, device=patches.device
            )
            grid = grid + bend.permute(0, 2, 3, 1) / sides
        return F.grid_sample(patches[:, None], grid, padding_mode="border", align_corners=False)[:, 0]

    def _stain(self, patches: Tensor, draw: dict[str, Tensor]) -> Tensor:
        if self.config.blur:
            kernel = torch.tensor([0.25, 0.5, 0.25], dtype=patches.dtype, device=patches.device)
            edged = F.pad(patches[:, None], (1, 1, 1, 1), mode="replicate")
            smooth = F.conv2d(F.conv2d(edged, kernel.view(1, 1, 1, 3)), kernel.view(1, 1, 3, 1))[:, 0]
            patches = torch.lerp(patches, smooth, draw["blur"][:, None, None])
        if "blur_px" in draw:
            patches = _blurred(patches, draw["blur_px"], self.config.blur_px)
        down, along = (
            torch.linspace(-1, 1, side, dtype=patches.dtype, device=patches.device) for side in patches.shape[1:]
        )
        uneven = 1 + draw["gradient"][:, 0, None, None] * down[:, None] + draw["gradient"][:, 1, None, None] * along
        raised = patches
        if self.config.gamma:
            raised = patches.clamp(min=_LEAST) ** draw["gamma"][:, None, None]
        return raised * draw["stain"][:, None, None] * uneven
