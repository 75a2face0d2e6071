"""The image on which the result of an entry of a tissue stack is shown: of a section its own, of a slab a part's."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from meshgnn.source.background import background_grey, frame_of
from meshgnn.source.section_image import Level, SectionImage
from meshgnn.source.sections import Section, SectionStack, open_section
from reconstruct.density import working_image
from reconstruct.records import TissueStack


def shown_image(stack: SectionStack, tissue: TissueStack, k: int) -> SectionImage:
    """Image of entry k, in whose pixels (`image_px_mm[k]`) its levels lie."""
    section = stack.at(int(tissue.index[k]))
    return _Laid(section, tissue, k) if tissue.dense else open_section(section)


class _Laid(SectionImage):
    """A section as it lies in its slab, on the slab's grid."""

    def __init__(self, section: Section, tissue: TissueStack, k: int) -> None:
        super().__init__(section.path)
        with open_section(section) as image:
            grey, step = working_image(image, max(1, round(tissue.pixel_mm * 1000 / section.pixel_um)))
        rows, columns = tissue.outer.shape[1:]
        flat = np.stack(np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij"), -1) * tissue.pixel_mm
        matrix = tissue.on_image(k)
        at = (flat @ matrix[:, :2].T + matrix[:, 2]) / (section.pixel_um / 1000)
        at = (at - (step - 1) / 2) / step
        glass = background_grey(frame_of(grey))
        laid = ndimage.map_coordinates(grey.astype(np.float32), np.moveaxis(at, -1, 0), order=1, cval=glass)
        self._grey = np.asarray(np.round(laid) if grey.dtype.kind == "u" else laid, grey.dtype)
        self.dtype = grey.dtype
        self.levels = (
            Level(shape=(rows, columns), factor=(1.0, 1.0), origin=(0.0, 0.0), tile_shape=(rows, columns)),
        )  # fmt: skip

    def blocks(
        self, level: int, top: int, bottom: int, left: int, right: int
    ) -> Iterator[tuple[int, int, NDArray[Any]]]:
        yield 0, 0, self._grey

    def close(self) -> None:
        """It is in memory."""
