"""One list of areas from the label tables of two hemispheres."""

import re

import numpy as np
from numpy.typing import NDArray

from meshgnn.graph import Areas
from meshgnn.source.socket import LabelTable

_NO_AREA = re.compile(
    r"^(\?+|none|unknown|unassigned|unlabell?ed|background|medial[ _-]?wall|corpus[ _-]?callosum|non[ _-]?cortex)$",
    re.I,
)
_SIDE = {"L": r"(l|lh|left)", "R": r"(r|rh|right)"}


def _without_side(names: list[str], hemisphere: str) -> list[str]:
    """Names less a hemisphere prefix or suffix (L_V1, lh.V1, V1_L) that all of them share."""
    for pattern in (rf"^(ctx[-_.])?{_SIDE[hemisphere]}[-_. ]+", rf"[-_. ]+{_SIDE[hemisphere]}$"):
        stripped = [re.sub(pattern, "", name, flags=re.IGNORECASE) for name in names]
        sided = names and all(short and short != name for short, name in zip(stripped, names))
        if sided and len(set(stripped)) == len(set(names)):
            return stripped
    return names


def join_tables(
    keys: list[NDArray[np.int32]], tables: list[LabelTable], hemispheres: list[str]
) -> tuple[NDArray[np.int32], Areas]:
    """Class numbers [V] of all hemispheres end to end, and the areas, matched by name.

    Names like unknown or medial wall count as unlabelled, as key 0 does. Only areas that some vertex carries become
    classes. Where both hemispheres name their areas with their own side (L_V1, R_V1), the side is taken off.
    """
    found: dict[str, tuple[int, tuple[float, ...]]] = {}
    numbered: list[dict[int, str]] = []
    for part, table, hemisphere in zip(keys, tables, hemispheres):
        used = [int(key) for key in np.unique(part) if key != 0 and key in table]
        used = [key for key in used if not _NO_AREA.match(table[key][0] or "")]
        # A nameless area goes by its key.
        names = _without_side([table[key][0] or str(key) for key in used], hemisphere)
        names = [name if names.count(name) == 1 else f"{name}_{key}" for name, key in zip(names, used)]
        numbered.append(dict(zip(used, names)))
        for key, name in zip(used, names):
            if name not in found:
                found[name] = (key, table[key][1])
    wanted = [key for key, _ in found.values()]
    unique = len(set(wanted)) == len(wanted) and min(wanted, default=1) > 0
    areas = Areas(
        names=tuple(found),
        colours=np.array([colour for _, colour in found.values()], np.float32).reshape(-1, 4),
        keys=tuple(wanted) if unique else (),
    )
    index = {name: k for k, name in enumerate(areas.names)}
    labels = []
    for part, names_by_key in zip(keys, numbered):
        values, inverse = np.unique(part, return_inverse=True)
        classes = np.array([index[names_by_key[int(v)]] if int(v) in names_by_key else -1 for v in values], np.int32)
        labels.append(classes[inverse])
    return np.concatenate(labels).astype(np.int32), areas
