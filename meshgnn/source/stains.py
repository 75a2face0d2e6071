"""From colour to one channel of stain: mean optical density, or one named stain by colour deconvolution.

What is returned is grey again, full scale x exp(-density): bright glass, dark stain, as a grey camera would have seen
it. So everything behind reads colour and grey alike. Stains are parted as in Ruifrok & Johnston (2001), with the stain
vectors that scikit-image ships.
"""

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshgnn.errors import InputError

DEFAULT = "density"
LUMINANCE = np.array([0.299, 0.587, 0.114])
"""Weights of red, green and blue in the brightness that the eye sees (Rec. 601)."""
# Name -> set of stain vectors in skimage.color (NAME_from_rgb), and the place of the stain in it.
_DECONVOLVED = {
    "hematoxylin": ("hed", 0), "eosin": ("hed", 1), "dab": ("hed", 2), "pas": ("hpx", 1), "methyl_blue": ("bpx", 0),
    "giemsa_blue": ("bex", 0), "fast_red": ("rbd", 0), "fast_blue": ("rbd", 1), "methyl_green": ("gdx", 0),
}  # fmt: skip
_CHANNELS = {"red": 0, "green": 1, "blue": 2}
STAINS = (DEFAULT, "luminance", *_CHANNELS, *_DECONVOLVED)
"""`density`: geometric mean of red, green, blue; `luminance`: Rec. 601; a channel; or a stain."""


def check_stain(name: str, where: str) -> str:
    """The name, if it is one of STAINS. Raises InputError that begins with `where`."""
    if name not in STAINS:
        raise InputError(f"{where}: stain is {name!r}; write one of {', '.join(STAINS)}")
    return name


def grey_of(colour: NDArray[Any], stain: str) -> NDArray[Any]:
    """One channel [H, W] of a colour image [H, W, 3], of the same type (unsigned, or float from 0 to 1)."""
    if stain in _CHANNELS:
        return np.ascontiguousarray(colour[..., _CHANNELS[stain]])
    whole = colour.dtype.kind == "u"
    if stain == "luminance":
        grey = colour @ LUMINANCE
        return np.round(grey).astype(colour.dtype) if whole else grey.astype(colour.dtype)
    top = float(np.iinfo(colour.dtype).max) if whole else 1.0
    weights = _weights(stain)
    grey = np.zeros(colour.shape[:2], np.float32)
    if colour.dtype == np.uint8:
        log = np.log(np.maximum(np.arange(256, dtype=np.float32), 1) / top)
        for k in range(3):
            grey += (log * weights[k])[colour[..., k]]
    else:
        least = 1.0 if whole else 1 / 4096
        for k in range(3):
            grey += np.log(np.maximum(colour[..., k].astype(np.float32), least) / np.float32(top)) * weights[k]
    grey = top * np.exp(np.minimum(grey, 0))  # there is no less than no stain
    return np.round(grey).astype(colour.dtype) if whole else grey.astype(colour.dtype)


@cache
def _weights(stain: str) -> NDArray[np.float32]:
    """[3] weights of the optical densities of red, green and blue in the density of a stain."""
    if stain == DEFAULT:
        return np.full(3, 1 / 3, np.float32)
    import skimage.color

    name, place = _DECONVOLVED[stain]
    # Concentration of the stain, times the mean density that one unit of it has in the three channels.
    parted = getattr(skimage.color, f"{name}_from_rgb")[:, place]
    return (parted * np.linalg.inv(getattr(skimage.color, f"{name}_from_rgb"))[place].mean()).astype(np.float32)
