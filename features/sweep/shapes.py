"""Generated shapes and textures to learn from where there is nothing else: a surrogate of a pretraining corpus."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from meshgnn.config import Config as BaseConfig
from meshgnn.errors import SettingError
from meshgnn.store import content_hash

CLASSES = ("ball", "shell", "box", "rod", "waves", "blobs")


class Shapes:
    """Volumes [1, S, S, S] float32, each with one of six shapes or textures of random place, size, direction and sign
    in noise; a `meshgnn.sockets.SubjectData` without subjects. Number `n` is of class `n % 6` and is the same wherever
    and whenever it is drawn.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            count: of volumes.
            noise: standard deviation, in units of a shape's contrast.
            seed: of all of them.
        """

        count: int = 600
        noise: float = 0.5
        seed: int = 0

        def __post_init__(self) -> None:
            if self.count < 5 * len(CLASSES) or self.noise < 0 or self.seed < 0:
                raise SettingError(f"<count> must be at least {5 * len(CLASSES)}, <noise> and <seed> not negative")

        def build(self, shape: tuple[int, ...]) -> "Shapes":
            """For an encoder of volumes (C, X, Y, Z), all channels alike. Raises SettingError for other items."""
            if len(shape) != 4:
                raise SettingError(f"<surrogate>: shapes are volumes, and the input has items of shape {shape}")
            return Shapes(self, shape)

    def __init__(self, config: Config, shape: tuple[int, ...]) -> None:
        self.config, self.shape = config, shape
        self.labels: NDArray[np.int64] = np.arange(config.count) % len(CLASSES)
        self.observed: NDArray[np.bool_] = np.ones(config.count, bool)
        self.groups: NDArray[np.int32] = np.arange(config.count, dtype=np.int32)

    def read(self, subjects: NDArray[np.integer]) -> NDArray[np.float32]:
        return np.stack([self._one(int(number)) for number in subjects])

    def key(self) -> str:
        return content_hash("shapes", self.config.count, self.config.noise, self.config.seed, list(self.shape))

    def _one(self, number: int) -> NDArray[np.float32]:
        rng = np.random.default_rng([self.config.seed, number])
        sides = self.shape[1:]
        grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, side) for side in sides), indexing="ij"))
        turned = np.tensordot(np.linalg.qr(rng.standard_normal((3, 3)))[0], grid, 1)
        away = turned - rng.uniform(-0.4, 0.4, (3, 1, 1, 1))
        size, far = rng.uniform(0.3, 0.6), np.sqrt((away**2).sum(0))
        kind = CLASSES[number % len(CLASSES)]
        if kind == "ball":
            found = far < size
        elif kind == "shell":
            found = np.abs(far - size) < 0.12
        elif kind == "box":
            found = (np.abs(away) < 0.8 * size).all(0)
        elif kind == "rod":
            found = np.sqrt((away[:2] ** 2).sum(0)) < 0.4 * size
        elif kind == "waves":
            found = np.sin(away[0] * rng.uniform(6, 12)) > 0
        else:
            smooth = ndimage.gaussian_filter(rng.standard_normal(sides), max(sides) * rng.uniform(0.04, 0.1))
            found = smooth > np.quantile(smooth, 0.7)
        values = rng.choice([-1.0, 1.0]) * found + self.config.noise * rng.standard_normal(sides)
        values = (values - values.mean()) / values.std()
        return np.broadcast_to(values, self.shape).astype(np.float32)
