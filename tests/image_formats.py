"""One grey image written in every format that sections are read from."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import nibabel
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[Any]


def half(image: Pixels, step: int = 2) -> Pixels:
    """Means of step x step pixels, of the same type; the last, partial ones over what there is."""
    grown = np.pad(image, [(0, -n % step) for n in image.shape], mode="edge").astype(np.float64)
    means = grown.reshape(grown.shape[0] // step, step, grown.shape[1] // step, step).mean((1, 3))
    return (np.round(means) if image.dtype.kind == "u" else means).astype(image.dtype)


def tiff_options(pixel_um: float) -> dict[str, Any]:
    return {"tile": (64, 64), "photometric": "minisblack", "compression": "zlib", "resolutionunit": "CENTIMETER",
            "resolution": (1e4 / pixel_um, 1e4 / pixel_um)}  # fmt: skip


def pyramid(path: Path, image: Pixels, pixel_um: float, *, steps: tuple[int, ...] = (2, 4), big: bool = True) -> Path:
    """BigTIFF with its levels in SubIFDs."""
    with tifffile.TiffWriter(path, bigtiff=big) as file:
        file.write(image, subifds=len(steps), metadata=None, **tiff_options(pixel_um))
        for step in steps:
            file.write(half(image, step), subfiletype=1, metadata=None, **tiff_options(pixel_um * step))
    return path


def pages(path: Path, image: Pixels, pixel_um: float, *, steps: tuple[int, ...] = (4, 16)) -> Path:
    """BigTIFF with its levels as further pages, not marked as reduced, as BigBrain's 1 um sections have them."""
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        for step in (1, *steps):
            file.write(half(image, step) if step > 1 else image, metadata=None, **tiff_options(pixel_um * step))
    return path


def ome(path: Path, image: Pixels, pixel_um: float) -> Path:
    """OME-TIFF without a pyramid; the size of a pixel stands in its XML alone."""
    tifffile.imwrite(
        path, image, ome=True, photometric="minisblack", tile=(64, 64),
        metadata={"axes": "YX", "PhysicalSizeX": pixel_um, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": pixel_um,
                  "PhysicalSizeYUnit": "µm"},
    )  # fmt: skip
    return path


def png(path: Path, image: Pixels, pixel_um: float) -> Path:
    Image.fromarray(image).save(path, dpi=(25400 / pixel_um,) * 2)
    return path


def jpeg(path: Path, image: Pixels, pixel_um: float) -> Path:
    Image.fromarray(image).save(path, quality=97, dpi=(round(25400 / pixel_um),) * 2)
    return path


def jpeg2000(path: Path, image: Pixels, pixel_um: float, *, resolutions: int = 4) -> Path:
    """Lossless; it has no place for the size of a pixel that is in common use."""
    path.write_bytes(imagecodecs.jpeg2k_encode(image, level=0, reversible=True, resolutions=resolutions))
    return path


def nifti(path: Path, image: Pixels, pixel_um: float) -> Path:
    """A coronal section [X, 1, Z]: columns to the right, rows down."""
    step = pixel_um / 1000
    affine = np.array([[step, 0, 0, -10], [0, 0.02, 0, 5], [0, 0, step, -20], [0, 0, 0, 1]])
    volume = nibabel.Nifti1Image(np.ascontiguousarray(image[::-1].T[:, None]), affine, dtype=image.dtype)
    volume.header.set_xyzt_units("mm")
    nibabel.save(volume, path)
    return path


def ome_zarr(
    path: Path, image: Pixels, pixel_um: float, *, version: str = "0.4", steps: tuple[int, ...] = (), said: bool = True
) -> Path:
    """OME-Zarr with axes c, y, x. `said`: levels tell their translation, as means of pixels have one."""
    import zarr

    group = zarr.open_group(str(path), mode="w", zarr_format=2 if version == "0.4" else 3)
    datasets = []
    for number, step in enumerate((1, *steps)):
        pixels = (half(image, step) if step > 1 else image)[None]
        array = group.create_array(str(number), shape=pixels.shape, chunks=(1, 64, 96), dtype=pixels.dtype)
        array[:] = pixels
        size = pixel_um * step
        placed = [{"type": "scale", "scale": [1.0, size, size]}]
        if said and steps:
            shift = (step - 1) / 2 * pixel_um
            placed.append({"type": "translation", "translation": [0.0, shift, shift]})
        datasets.append({"path": str(number), "coordinateTransformations": placed})
    axes = [{"name": "c", "type": "channel"}]
    axes += [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    scales = [{"axes": axes, "datasets": datasets, "name": "section"}]
    if version == "0.4":
        group.attrs["multiscales"] = [{**scales[0], "version": "0.4"}]
    else:
        group.attrs["ome"] = {"version": version, "multiscales": scales}
    return path


def slide(path: Path, image: Pixels, pixel_um: float, *, steps: tuple[int, ...] = (4,)) -> Path:
    """A tiled TIFF as Aperio's scanners write it (RGB, JPEG of the highest quality)."""
    about = f"Aperio Image Library v12.0.0\n{image.shape[1]}x{image.shape[0]}|AppMag = 20|MPP = {pixel_um}"
    with tifffile.TiffWriter(path) as file:
        for step in (1, *steps):
            pixels = np.repeat((half(image, step) if step > 1 else image)[..., None], 3, axis=2)
            file.write(
                pixels, tile=(64, 64), photometric="rgb", compression="jpeg", compressionargs={"level": 100},
                description=about if step == 1 else f"Aperio Image Library v12.0.0\nlevel {step}", metadata=None,
            )  # fmt: skip
    return path


Writer = Callable[[Path, Pixels, float], Path]

# Name of the ending -> writer, for those formats in which no bit of an 8-bit image is lost.
EXACT: dict[str, tuple[str, Writer]] = {
    "pyramid": (".tif", pyramid), "pages": (".tif", pages), "ome": (".ome.tif", ome), "png": (".png", png),
    "jpeg2000": (".jp2", jpeg2000), "nifti": (".nii.gz", nifti),
    "zarr04": (".ome.zarr", lambda p, i, u: ome_zarr(p, i, u, version="0.4")),
    "zarr05": (".ome.zarr", lambda p, i, u: ome_zarr(p, i, u, version="0.5")),
}  # fmt: skip
NEEDS = {"zarr04": "zarr", "zarr05": "zarr", "slide": "openslide"}


def metadata_of(path: Path) -> dict[str, Any]:
    """The JSON of an OME-Zarr 0.4 group."""
    return dict(json.loads((path / ".zattrs").read_text()))
