"""The areas of a hemisphere: prototypes, seed points and touches (see `areas` for what they mean)."""

from dataclasses import dataclass, field

Point = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class AreaSpec:
    """An area of the layout.

    Args:
        name: of the class.
        prototype: key of PROTOTYPES.
        points_mm: polyline of seed points on the left pial surface, RAS.
        weight_mm: how far it pushes its borders outwards.
        share, density, size: factors per layer on the prototype (empty = 1), the area's own touch.
        sharp: borders within 0.4 mm rather than 1-3 mm.
        drift: how far its place varies between brains, relative to the others. Of V1, 4 and 44 after the shares of
            their labels where ex-vivo maps agree by more than 0.8 (55, 8 and 7 %); of all others a guess: less where
            an area keeps to a primary sulcus, more in association cortex.
        isocortex: False for allocortex, which is drawn but not mapped.
    """

    name: str
    prototype: str
    points_mm: tuple[Point, ...]
    weight_mm: float = 0.0
    share: dict[int, float] = field(default_factory=dict)
    density: dict[int, float] = field(default_factory=dict)
    size: dict[int, float] = field(default_factory=dict)
    scale: float = 1.0
    sharp: bool = False
    drift: float = 1.0
    isocortex: bool = True


# Keys of share, density and size are layers 1-6.
LAYOUT: tuple[AreaSpec, ...] = (
    AreaSpec(
        name="4",
        drift=1.0,
        prototype="FA",
        points_mm=((-8, -26, 66), (-24, -24, 66), (-38, -17, 58), (-50, -7, 44), (-58, 0, 26)),
        weight_mm=1,
    ),
    AreaSpec(
        name="3b",
        drift=0.8,
        prototype="PB",
        points_mm=((-10, -38, 68), (-28, -34, 62), (-44, -25, 52), (-56, -16, 40), (-61, -10, 24)),
        weight_mm=-1,
        sharp=True,
    ),
    AreaSpec(
        name="1/2",
        prototype="PE",
        points_mm=((-18, -48, 70), (-34, -42, 62), (-50, -32, 52), (-61, -22, 36)),
        share={3: 0.9, 4: 1.2, 1: 1.1},
        density={2: 1.1, 4: 1.05},
        scale=1.08,
    ),
    AreaSpec(
        name="6d",
        prototype="FBm",
        points_mm=((-18, -6, 70), (-30, -2, 62), (-42, 4, 52)),
        share={3: 1.15, 6: 0.85, 4: 1.5},
        size={3: 1.12},
    ),
    AreaSpec(name="6m", prototype="FBm", points_mm=((-6, -10, 66), (-6, 6, 62), (-8, 16, 60))),
    AreaSpec(
        name="8",
        prototype="FD",
        points_mm=((-8, 34, 50), (-22, 28, 52), (-38, 20, 46)),
        share={4: 0.6, 5: 1.2},
        size={5: 1.1},
        scale=0.95,
    ),
    AreaSpec(
        name="46", drift=1.2, prototype="FD", points_mm=((-38, 40, 26), (-30, 50, 22), (-44, 28, 32)), density={4: 1.1}
    ),
    AreaSpec(name="9", prototype="FD", points_mm=((-6, 54, 32), (-16, 52, 36), (-6, 56, 18)), scale=0.86),
    AreaSpec(name="10", prototype="FE", points_mm=((-22, 64, 4), (-8, 64, -4), (-36, 58, 0)), weight_mm=1),
    AreaSpec(
        name="44",
        drift=1.3,
        prototype="FD",
        points_mm=((-54, 12, 12), (-54, 10, 26)),
        share={4: 0.5, 3: 1.1},
        size={3: 1.18, 5: 1.05},
        weight_mm=1,
    ),
    AreaSpec(
        name="45",
        drift=1.3,
        prototype="FD",
        points_mm=((-52, 30, 4), (-54, 26, 16)),
        share={4: 1.35},
        size={3: 1.1},
        scale=1.04,
        weight_mm=1,
    ),
    AreaSpec(name="47", prototype="FE", points_mm=((-44, 34, -12), (-30, 32, -18)), size={3: 1.12}, scale=0.92),
    AreaSpec(name="11", prototype="FE", points_mm=((-8, 30, -24), (-18, 48, -18)), share={4: 0.6, 2: 1.2}, scale=0.97),
    AreaSpec(
        name="24",
        prototype="IA",
        points_mm=((-5, 34, 14), (-5, 20, 28), (-5, 38, -2), (-5, 2, 38)),
        share={5: 1.2},
        density={5: 1.12},
        weight_mm=1,
    ),
    AreaSpec(
        name="23",
        prototype="PE",
        points_mm=((-5, -46, 28), (-5, -28, 40), (-7, -54, 16)),
        share={4: 0.7, 5: 1.15},
        density={2: 1.15, 4: 1.1},
        scale=1.06,
    ),
    AreaSpec(name="Ia", prototype="IA", points_mm=((-36, 14, -6), (-38, 4, -12)), weight_mm=1),
    AreaSpec(name="Ig", prototype="PF", points_mm=((-38, -6, 8), (-37, -18, 8), (-37, 8, 6)), share={6: 1.2}),
    AreaSpec(name="7", prototype="PE", points_mm=((-16, -62, 64), (-30, -58, 60), (-10, -54, 66))),
    AreaSpec(name="PF", drift=1.2, prototype="PF", points_mm=((-60, -34, 32), (-60, -28, 22), (-54, -44, 46))),
    AreaSpec(
        name="PG",
        drift=1.2,
        prototype="PF",
        points_mm=((-46, -66, 36), (-52, -58, 26)),
        share={3: 1.08, 4: 1.2},
        scale=1.1,
    ),
    AreaSpec(name="7m", prototype="PE", points_mm=((-6, -64, 44), (-7, -58, 34)), density={3: 0.9}, scale=0.88),
    AreaSpec(
        name="V1",
        drift=0.35,
        prototype="OC",
        points_mm=((-10, -70, 8), (-8, -82, 4), (-8, -94, -2), (-16, -101, -4)),
        weight_mm=1,
        sharp=True,
    ),
    AreaSpec(
        name="V2",
        drift=0.5,
        prototype="OA",
        points_mm=((-8, -74, 22), (-8, -88, 22), (-20, -98, 14), (-28, -97, -6), (-14, -86, -12), (-12, -70, -4)),
        share={3: 1.1, 5: 0.9},
        size={3: 1.15},
        scale=1.15,
        weight_mm=-2,
    ),
    AreaSpec(
        name="V3d", drift=0.8, prototype="OA", points_mm=((-24, -86, 28), (-34, -86, 14), (-14, -86, 36)), scale=1.06
    ),
    AreaSpec(name="V4", prototype="OA", points_mm=((-34, -82, -14), (-38, -72, -16), (-24, -74, -12)), size={3: 0.92}),
    AreaSpec(
        name="MT",
        drift=0.9,
        prototype="OA",
        points_mm=((-46, -72, 4), (-44, -78, -2)),
        share={4: 1.3, 3: 1.05},
        density={6: 0.85},
    ),
    AreaSpec(
        name="A1",
        drift=0.8,
        prototype="TC",
        points_mm=((-42, -26, 10), (-48, -20, 6), (-54, -14, 4)),
        weight_mm=0,
        sharp=True,
    ),
    AreaSpec(
        name="STG",
        prototype="TE",
        points_mm=((-64, -22, 4), (-62, -6, -4), (-62, -42, 14), (-54, 8, -14)),
        share={4: 1.3, 2: 1.25},
        density={4: 1.05},
        scale=1.1,
    ),
    AreaSpec(name="MTG", prototype="TE", points_mm=((-66, -30, -12), (-62, -10, -22), (-62, -48, -4)), size={3: 1.1}),
    AreaSpec(name="ITG", prototype="TE", points_mm=((-54, -26, -28), (-54, -48, -18), (-48, -8, -38)), scale=0.9),
    AreaSpec(name="TG", prototype="IA", points_mm=((-36, 16, -34), (-44, 8, -36)), size={3: 1.1, 5: 1.1}, weight_mm=1),
    AreaSpec(
        name="TF",
        prototype="TE",
        points_mm=((-36, -44, -20), (-34, -26, -26), (-38, -58, -18)),
        share={4: 0.8, 5: 1.1, 6: 1.1},
        size={5: 1.12},
    ),
    AreaSpec(
        name="TH",
        drift=0.8,
        prototype="IA",
        points_mm=((-24, -36, -14), (-16, -48, -4)),
        share={2: 1.2},
        density={2: 1.2},
        scale=1.05,
        weight_mm=-2,
    ),
    AreaSpec(
        name="entorhinal",
        drift=0.7,
        prototype="EC",
        points_mm=((-22, -8, -32), (-24, -18, -28)),
        weight_mm=-1,
        isocortex=False,
    ),
    AreaSpec(
        name="hippocampus",
        drift=0.7,
        prototype="HC",
        points_mm=((-16, -12, -20), (-18, -26, -12)),
        weight_mm=-3,
        isocortex=False,
    ),
)
