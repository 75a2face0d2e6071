"""What a reconstruction must look like to be a brain: bounds, and what is said of sections and hemispheres beyond them.

Images carry no proof of their order, size or stain, and a wrong line in the sections file still gives a mesh. So every
figure that such a mistake moves is held against a bound. What cannot be a brain is refused; the rest is a warning that
names the section or the hemisphere and what to look at. Bounds of hemispheres are those of the species.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from meshgnn import config
from meshgnn.errors import InputError
from meshgnn.source.same_images import same_in_stack
from reconstruct.mounted import of_mounting
from reconstruct.records import Alignment, Midsurface, Mounting, Reconstruction, Ribbon, TissueStack
from reconstruct.species import AS_SPECIES, BySpeciesCount, BySpeciesPair, settled
from reconstruct.steps.mounting import turns

_TURN_DEG = 60.0  # sections are laid on glass better than this
_LARGE = 0.2  # sections with less tissue than this share of the largest are too small to be compared


@dataclass(frozen=True, kw_only=True)
class Plausible(config.Config):
    """Bounds. In brackets what virtual brains (preset quick) show.

    Args:
        sections: least number of sections; a human brain takes one every 2 to 4 mm, so forty or more [45-55].
        thickness_mm: least and largest median thickness of a hemisphere [2.4]; None = of the species.
        hemisphere_cm2: least and largest area of its midsurface [650]; None = of the species.
        handles: most handles cut from a hemisphere [0-3]; None = of the species.
        refuse: whether a hemisphere that cannot be cortex ends the work without a mesh.
        beyond: factor on the bounds of thickness and area from which a hemisphere cannot be cortex.
        most_handles: handles cut from a hemisphere from which on it cannot be cortex; None = of the species.
        repaired: largest share of a hemisphere's volume that repairs of its topology may change.
        sides: largest volume of one hemisphere over the other's [1.01].
        lost: largest share of tissue that hangs together with neither hemisphere [0.01].
        joint: largest area of white matter where left meets right, over the smaller white volume to the power 2/3; a
            single hemisphere cut in two has a wide joint.
        area_step: a section's tissue exceeds or falls short of both its neighbours' by at most this factor [1.05].
        waist: least tissue in the midst of the stack, as a share of what lies on both sides of it [0.8 of 1].
        odd: neighbours of a section must differ from each other by at least this multiple of what they differ from it
            [1.57; 0.95 with preset hard]. Below, and if it fits in no way clearly, it does not belong there.
        swapped: two sections must fit their places by at least this factor better than each other's [1.4; exchanged
            ones 0.7].
        sure: from this on it is told that a section is turned or mirrored: how much worse all sections fit (sum of the
            logarithms of differences) if it lay as the others do [0.1; turned and mirrored ones 0.6 and more].
        overlap: least Dice overlap with the neighbours [0.64].
        scale: a section must not be fitted to its neighbours by a scale that differs from theirs by more than this
            factor (registration takes up about half of a wrong one, and needs align.affine_rounds) [1.01; 1.02 with
            preset hard; 1.04 to 1.09 where pixel_um is 10 % off].
        light: largest difference in brightness between opposite edges of an image, as a share [0; 0.08 with preset
            hard].
        tissue_share: largest share of a section's image that is tissue: glass must be seen around it [0.5].
        copies: share of sections that may show the same image as another one before the stack is refused.
    """

    sections: int = 15
    thickness_mm: BySpeciesPair = AS_SPECIES
    hemisphere_cm2: BySpeciesPair = AS_SPECIES
    handles: BySpeciesCount = AS_SPECIES
    refuse: bool = True
    beyond: float = 1.25
    most_handles: BySpeciesCount = AS_SPECIES
    repaired: float = 0.05
    sides: float = 1.5
    lost: float = 0.1
    joint: float = 0.8
    area_step: float = 1.4
    waist: float = 0.35
    odd: float = 1.3
    swapped: float = 0.85
    sure: float = 0.4
    overlap: float = 0.4
    scale: float = 1.033
    light: float = 0.12
    tissue_share: float = 0.9
    copies: float = 0.1


class NoCortexError(InputError):
    """What was reconstructed cannot be a cortex.

    Args:
        reasons: one line each.
        result: for those who look at what went wrong; it is not handed out.
    """

    def __init__(self, reasons: Sequence[str], result: Reconstruction) -> None:
        more = f" (and {len(reasons) - 1} more, see the report)" if len(reasons) > 1 else ""
        super().__init__(f"no mesh is handed out: {reasons[0]}{more}; plausible.* and species set the bounds")
        self.result = result


def of_tissue(stack: TissueStack, bounds: Plausible) -> list[str]:
    """Warnings about sections as they were scanned.

    Raises InputError if grey matter lies inside white, or if too many sections show one image.
    """
    warnings = []
    if len(stack.index) < bounds.sections:
        span = float(np.ptp(stack.position_mm))
        warnings.append(
            f"only {len(stack.index)} sections over {span:.3g} mm (at least {bounds.sections} are expected): the mesh "
            "is guessed between them, and thickness and areas mean little; give a section every 2 to 4 mm"
        )
    first: dict[str, int] = {}
    copies = []
    for k, index in enumerate(stack.index.tolist()):
        key = sha256(stack.outer[k].tobytes() + stack.white[k].tobytes()).hexdigest()
        if key in first:
            copies.append((first[key], index))
        first.setdefault(key, index)
    for a, b in same_in_stack(stack.fine, stack.position_mm):  # also if stored anew, in another format or turned
        if all(stack.index[b] != copy for _, copy in copies):
            copies.append((int(stack.index[a]), int(stack.index[b])))
    if len(copies) > max(1.0, bounds.copies * len(stack.index)):
        raise InputError(
            f"{len({k for pair in copies for k in pair})} of {len(stack.index)} sections show the same image as "
            f"another, sections {copies[0][0]} and {copies[0][1]} first: check the column `file` of the sections file"
        )
    warnings += [f"sections {a} and {b} show the same image: check the column `file`" for a, b in copies]
    deep_white, deep_grey = _depths(stack)
    if deep_white < deep_grey:
        raise InputError(
            f"what was taken for white matter lies nearer to the surface ({deep_white:.1f} mm deep) than what was "
            f"taken for grey matter ({deep_grey:.1f} mm): grey matter must be the darker of the two; invert the "
            "stain, or take sections in which cells are stained"
        )
    warnings += [
        f"section {index}: does not fit the sections of its slab and was left out; check its file and how it lies"
        for index in stack.odd.tolist()
    ]
    area = _areas(stack)
    share = area / np.prod(2 * stack.centre_mm + stack.image_px_mm[:, None], axis=1)
    for k in np.flatnonzero(share > bounds.tissue_share).tolist():
        warnings.append(
            f"section {stack.index[k]}: {share[k]:.0%} of its image is tissue; glass must be seen around it"
        )
    dark = np.flatnonzero(stack.falloff > bounds.light)
    if len(dark):
        worst = int(dark[np.argmax(stack.falloff[dark])])
        warnings.append(
            f"{_named(stack.index[dark])}: one edge of the image is darker than the opposite one (section "
            f"{stack.index[worst]} by {stack.falloff[worst]:.0%}, at most {bounds.light:.0%} is expected): glass there "
            "may be taken for tissue; even out the light, or leave glass around the tissue"
        )
    step = _steps(area)
    wrong = np.flatnonzero((step > bounds.area_step) | (step < 1 / bounds.area_step)).tolist()
    for k in wrong:
        warnings.append(
            f"section {stack.index[k]}: its tissue covers {step[k]:.2g} times that of its neighbours; check its "
            "pixel_um, and that the section is whole (or mark it as not usable)"
        )
    smooth = ndimage.median_filter(area, 3, mode="nearest")
    if len(area) > 4:
        before, after = np.maximum.accumulate(smooth), np.maximum.accumulate(smooth[::-1])[::-1]
        narrow = smooth / np.maximum(np.minimum(before, after), 1e-9)
        k = int(np.argmin(np.where(np.isin(np.arange(len(area)), wrong), np.inf, narrow)))
        if narrow[k] < bounds.waist:
            warnings.append(
                f"section {stack.index[k]}: the stack has a waist there ({narrow[k]:.0%} of the tissue on both sides); "
                "check that the parts before and after it are not exchanged"
            )
    return warnings


def of_alignment(stack: TissueStack, alignment: Alignment, mounting: Mounting, bounds: Plausible) -> list[str]:
    """Warnings about sections that do not fit their place, or lie otherwise than their neighbours."""
    area, index = _areas(stack), stack.index
    large = area >= _LARGE * area.max()
    step = _steps(area)
    said = of_mounting(stack, mounting, large, odd=bounds.odd, swapped=bounds.swapped, sure=bounds.sure)
    warnings = list(said.values())
    turn, _ = turns(alignment.to_section)
    for k in np.flatnonzero(large & (np.abs(turn) > _TURN_DEG) & (mounting.way == 0)).tolist():
        warnings.append(
            f"section {index[k]}: was turned by {turn[k]:.0f} degrees to fit its neighbours; check how its image lies"
        )
    scale = np.sqrt(np.abs(np.linalg.det(alignment.to_section[:, :, :2])))
    for k, factor in _misfits(stack.position_mm, scale, large, bounds.scale).items():
        if bounds.area_step > step[k] > 1 / bounds.area_step:  # told already otherwise
            warnings.append(
                f"section {index[k]}: fits its neighbours when scaled by {1 / factor:.2f} (within {bounds.scale:g} is "
                f"expected); its pixel_um seems too {'large' if factor > 1 else 'small'}"
            )
    alone = large & (alignment.overlap < bounds.overlap) & (np.abs(np.log(step)) < 0.3)
    alone[list(said)] = False
    for k in np.flatnonzero(alone).tolist():
        warnings.append(
            f"section {index[k]}: overlaps its neighbours by {alignment.overlap[k]:.2f} only (at least "
            f"{bounds.overlap:g} is expected); check its place in the order and how it lies"
        )
    return warnings


def of_surfaces(found: Sequence[Midsurface], ribbon: Ribbon, halves: Sequence[Ribbon], bounds: Plausible) -> list[str]:
    """Warnings about hemispheres."""
    bounds, warnings = settled(bounds, "plausible"), []
    for item in found:
        side, report = item.mesh.hemisphere, item.report
        for name, value, (low, high), unit, remedy in (
            ("median thickness", report["thickness_mm_median"], bounds.thickness_mm, "mm",
             "check stain, light and pixel_um"),
            ("area", report["area_mm2"] / 100, bounds.hemisphere_cm2, "cm2", "check pixel_um and position_mm"),
        ):  # fmt: skip
            if not low <= value <= high:
                warnings.append(
                    f"hemisphere {side}: {name} {value:.3g} {unit}, where {low:g} to {high:g} is expected; {remedy} "
                    "(species= or plausible.* set other bounds)"
                )
        if report["handles_removed"] > bounds.handles:
            warnings.append(
                f"hemisphere {side}: {report['handles_removed']} handles were cut, at most {bounds.handles} are "
                "expected; look for torn or badly placed sections"
            )
    volumes = [float((half.pial < 0).sum()) for half in halves]
    lost = 1 - sum(volumes) / max(1.0, float((ribbon.pial < 0).sum()))
    if lost > bounds.lost:
        warnings.append(
            f"{lost:.0%} of the tissue hangs together with no hemisphere and was left out; look for a section that is "
            "empty, a fragment, or far off its place"
        )
    if len(halves) == 2:
        ratio = max(volumes) / max(1.0, min(volumes))
        if ratio > bounds.sides:
            small = halves[int(np.argmin(volumes))].hemisphere
            warnings.append(
                f"hemisphere {small}: {ratio:.1f} times smaller than the other one; is a part of it missing?"
            )
        joint = joint_of(ribbon, halves)
        if joint > bounds.joint:
            warnings.append(
                f"hemispheres L and R: the white matter between them is wide ({joint:.2f}, at most {bounds.joint:g} is "
                "expected); if this is one hemisphere, set hemispheres.sides to L or R"
            )
    return warnings


def not_cortex(found: Sequence[Midsurface], bounds: Plausible) -> list[str]:
    """Why hemispheres cannot be cortex: one line each, with what to look at; none if all can."""
    bounds, told = settled(bounds, "plausible"), []
    for item in found:
        side, report = item.mesh.hemisphere, item.report
        for name, value, (low, high), unit, remedy in (
            ("median thickness", report["thickness_mm_median"], bounds.thickness_mm, "mm",
             "look at the outlines of tissue and white matter in qc/sections.png"),
            ("area", report["area_mm2"] / 100, bounds.hemisphere_cm2, "cm2",
             "look for cerebellum, doubled outlines and gaps in qc/volume.png; check pixel_um and position_mm"),
        ):  # fmt: skip
            if not low / bounds.beyond <= value <= high * bounds.beyond:
                told.append(
                    f"hemisphere {side}: {name} {value:.3g} {unit} cannot be (a hemisphere has {low:g} to {high:g}); "
                    f"{remedy}"
                )
        changed = sum(one["volume_mm3"] for one in item.repairs if one["kind"] not in ("sulcus opened", "bridge cut"))
        share = changed / max(float(report["volume_mm3"]), 1e-9)
        for name, value, most in (("handles cut", report["handles_removed"], bounds.most_handles),
                                  ("of its volume changed by repairs", share, bounds.repaired)):  # fmt: skip
            if value > most:
                number, limit = (f"{value:.0%}", f"{most:.0%}") if most < 1 else (str(value), str(most))
                told.append(
                    f"hemisphere {side}: {number} {name}, at most {limit} can be mended; look at the repairs listed "
                    "on the page, at torn or badly placed sections, and at the outlines in qc/sections.png"
                )
    return told


def joint_of(ribbon: Ribbon, halves: Sequence[Ribbon]) -> float:
    """Area in which the white matter of two halves touches, over the smaller white volume to the power 2/3."""
    sides = np.zeros(ribbon.pial.shape, np.int8)
    volumes = []
    for number, half in enumerate(halves, start=1):
        places = np.argwhere(half.white < 0)
        volumes.append(len(places))
        places = places + np.rint(ribbon.to_voxels(half.affine[:3, 3])).astype(int)
        sides[tuple(places.T)] = number
    faces = 0
    for axis in range(3):
        turned = np.moveaxis(sides, axis, 0)
        faces += int((turned[1:] * turned[:-1] == 2).sum())
    return faces / max(1.0, min(volumes)) ** (2 / 3)


def _named(numbers: NDArray[np.integer]) -> str:
    """Section numbers: the first few, and how many there are."""
    warnings = f"section{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers[:5].tolist()))}"
    return f"{warnings}, ... ({len(numbers)} in all)" if len(numbers) > 5 else warnings


def _misfits(
    position: NDArray[np.float64], scale: NDArray[np.float64], able: NDArray[np.bool_], most: float
) -> dict[int, float]:
    """Sections whose scale differs by more than the factor `most` from that between their neighbours: place -> factor.

    The worst goes first, and no longer counts as a neighbour: beside a wrong section a right one looks wrong too. Only
    sections of `able` are compared, and the first and the last never: they have a neighbour on one side alone.
    """
    left, found = np.flatnonzero(able).tolist(), {}
    while len(left) > 2:
        own = np.log(scale[left])
        place = position[left]
        share = (place[1:-1] - place[:-2]) / (place[2:] - place[:-2])
        away = own[1:-1] - ((1 - share) * own[:-2] + share * own[2:])
        worst = int(np.argmax(np.abs(away)))
        if abs(away[worst]) <= np.log(most):
            break
        found[left.pop(worst + 1)] = float(np.exp(away[worst]))
    return dict(sorted(found.items()))


def _depths(stack: TissueStack) -> tuple[float, float]:
    """Mean depth in mm below the outline of white and of grey matter; infinite and 0 where there is none of one."""
    sums = np.zeros((2, 2))
    for outer, inner in zip(stack.outer, stack.white):  # section by section: a long series fills the memory
        tissue, white = outer < 0, inner < 0
        for place, part in enumerate((white, tissue & ~white)):
            sums[place] += float(-outer[part].sum(dtype=np.float64)), int(part.sum())
    (white_mm, white_px), (grey_mm, grey_px) = sums
    return (white_mm / white_px, grey_mm / grey_px) if white_px and grey_px else (np.inf, 0.0)


def area_steps(stack: TissueStack) -> NDArray[np.float64]:
    """[N] tissue over that of the nearer neighbour where it lies outside of both; 1 between them, and at the ends."""
    return _steps(_areas(stack))


def _areas(stack: TissueStack) -> NDArray[np.float64]:
    """Tissue of every section in mm^2."""
    return np.array([(outer < 0).sum() for outer in stack.outer]) * stack.pixel_mm**2


def _steps(area: NDArray[np.float64]) -> NDArray[np.float64]:
    """[N] tissue over that of the nearer neighbour where it lies outside of both; 1 between them, and at the ends."""
    result = np.ones(len(area))
    for k in range(1, len(area) - 1):
        low, high = sorted((area[k - 1], area[k + 1]))
        if low >= _LARGE * area.max():
            result[k] = max(area[k] / low, 1e-3) if area[k] < low else max(1.0, area[k] / high)
    return result
