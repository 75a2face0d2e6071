"""All that depends on the species: lengths of the steps, and what a hemisphere may measure.

A field of a step that is annotated `BySpecies` holds None until a species fills it in (`settled`); what the user sets
wins. Figures of hemispheres are of the midsurface, medial wall included.

| species | area of a hemisphere, cm2 | thickness, mm | from |
|---|---|---|---|
| human | 800 to 1100 | 2.5 | Fischl & Dale 2000 (1 to 4.5 mm, mean 2.5); Van Essen et al. 2012 (973 cm2) |
| macaque | about 110 | 2 | Van Essen et al. 2012 (a tenth of human); the thickness is our guess |
| marmoset | about 10 | 1.6 | our guesses |
| rat | about 3 | 1.8 | our guesses |
| mouse | about 1.2 | 0.9 | our guesses |

Lengths for other species than human are guesses too: those across the cortex go with its thickness, those along the
brain with its length, the largest pixel of a length being that of the human setting times the same factor.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from meshgnn.config import Config

Name = Literal["human", "macaque", "marmoset", "rat", "mouse"]
C = TypeVar("C", bound=Config)

AS_SPECIES: Any = None
"""Default of a field that the species fills in."""

if TYPE_CHECKING:  # steps see numbers: whoever makes one settles its config first
    BySpecies = float
    BySpeciesPair = tuple[float, float]
    BySpeciesCount = int
else:
    BySpecies = float | None
    BySpeciesPair = tuple[float, float] | None
    BySpeciesCount = int | None

# Lengths in mm (areas in mm2, volumes in mm3), by step. Across: they go with the thickness of cortex.
_ACROSS: dict[str, dict[str, float]] = {
    "tissue": {
        "pixel_mm": 0.2, "reach_mm": 4.0, "tear_mm": 0.6, "fold_mm": 0.6, "bridge_mm": 2.6, "layer_one_mm": 0.9,
        "soft_mm": 0.36, "smooth_mm": 0.15, "piece_mm2": 3.0, "hole_mm2": 2.0, "every_mm": 0.25,
    },
    "align": {"pixel_mm": 1.0, "reach_mm": 3.0},
    "mounting": {"pixel_mm": 2.0, "reach_mm": 3.0},
    "smooth": {"spacing_mm": 12.0},
    "stack": {"voxel_mm": 0.7, "reach_mm": 4.0},
    "midsurface": {"edge_mm": 2.0, "open_sulci_mm": 1.6, "min_thickness_mm": 0.8},
}  # fmt: skip
# Along: they go with the length of the brain.
_ALONG: dict[str, dict[str, float]] = {
    "tissue": {"least_mm2": 20.0, "largest_mm": 500.0},
    "stack": {"largest_gap_mm": 12.0},
    "cerebrum": {"passage_mm": 4.0, "ventricle_mm3": 2000.0, "deep_mm": 14.0, "apart_mm": 45.0},
    "hemispheres": {"slab_mm": 8.0},
}


@dataclass(frozen=True, kw_only=True)
class Species:
    """One species.

    Args:
        across: thickness of its cortex over that of the human one.
        along: length of its brain over that of the human one.
        hemisphere_cm2: area of a hemisphere beyond which a warning is due.
        thickness_mm: median thickness of a hemisphere beyond which a warning is due.
        handles: handles cut from a hemisphere above which a warning is due, and from which on it cannot be cortex. A
            folded cortex touches itself in many places, a smooth one in none.
        template: whether the template of the human brain fits it.
        lengths: by step, what differs from the human lengths by more than a factor.
    """

    across: float
    along: float
    hemisphere_cm2: tuple[float, float]
    thickness_mm: tuple[float, float]
    handles: tuple[int, int]
    template: bool = False
    lengths: Mapping[str, Mapping[str, float]]

    def of(self, step: str) -> dict[str, Any]:
        """What the fields of a step's config are in this species."""
        if step == "plausible":
            return {
                "hemisphere_cm2": self.hemisphere_cm2, "thickness_mm": self.thickness_mm, "handles": self.handles[0],
                "most_handles": self.handles[1],
            }  # fmt: skip
        found: dict[str, Any] = {"find": "template" if self.template else "none"} if step == "cerebrum" else {}
        for lengths, factor in ((_ACROSS, self.across), (_ALONG, self.along)):
            for name, value in lengths.get(step, {}).items():
                power = 2 if name.endswith("_mm2") else 3 if name.endswith("_mm3") else 1
                found[name] = float(f"{value * factor**power:.3g}")
        return found | dict(self.lengths.get(step, {}))


SPECIES: dict[str, Species] = {
    "human": Species(
        across=1.0, along=1.0, hemisphere_cm2=(400.0, 1400.0), thickness_mm=(1.2, 4.5), handles=(60, 1000),
        template=True, lengths={},
    ),
    "macaque": Species(
        across=0.8, along=0.45, hemisphere_cm2=(50.0, 250.0), thickness_mm=(1.0, 3.5), handles=(60, 500),
        lengths={},
    ),
    "marmoset": Species(
        across=0.6, along=0.19, hemisphere_cm2=(5.0, 25.0), thickness_mm=(0.8, 2.6), handles=(20, 100),
        lengths={},
    ),
    # Smooth cortices: what lies deeper than twice their thickness is no cortex, and no sulci are glued.
    "rat": Species(
        across=0.6, along=0.13, hemisphere_cm2=(1.2, 6.0), thickness_mm=(0.8, 2.8), handles=(10, 40),
        lengths={"cerebrum": {"deep_mm": 4.0}, "midsurface": {"edge_mm": 0.4, "open_sulci_mm": 0.0}},
    ),
    "mouse": Species(
        across=0.36, along=0.075, hemisphere_cm2=(0.5, 2.4), thickness_mm=(0.4, 1.6), handles=(10, 40),
        lengths={"cerebrum": {"deep_mm": 2.2}, "midsurface": {"edge_mm": 0.2, "open_sulci_mm": 0.0}},
    ),
}  # fmt: skip


STEPS = ("tissue", "align", "mounting", "smooth", "stack", "cerebrum", "hemispheres", "midsurface", "plausible")


def settled(settings: C, step: str, name: Name = "human") -> C:
    """A step's config with every field that was left to the species filled in."""
    own = SPECIES[name].of(step)
    return replace(settings, **{key: value for key, value in own.items() if getattr(settings, key) is None})
