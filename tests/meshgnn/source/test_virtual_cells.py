"""The preset `cells`: fields of single cells at true places, as a stack that the pipeline's reader takes."""

import csv
from dataclasses import replace

import numpy as np
import pytest

from meshgnn.source.sections import open_section, read_stack
from meshgnn.source.virtual import VirtualBrain
from meshgnn.source.virtual.areas import NAMES
from meshgnn.source.virtual.cell_fields import fields_of, write_cells
from meshgnn.source.virtual.highres import describe

SMALL = VirtualBrain.Config(seed=3, preset="cells", hemispheres="L", subdivisions=0, cells=2, cells_mm=0.2)


def test_fields_are_a_stack_with_true_places_and_the_same_bytes_at_any_number_of_threads(tmp_path):
    brain = SMALL.build()
    cuts = [one for one in brain.cuts if one.fate == "good"][10:12]
    write_cells(brain, cuts, tmp_path / "one", 1)
    write_cells(brain, cuts, tmp_path / "two", 2)
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert len(files) == 4
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes() for name in files)
    stack = read_stack(tmp_path / "one")
    assert stack.pixel_um == 2.0
    rows = list(csv.DictReader((tmp_path / "one" / "fields.csv").open()))
    assert len(rows) == 4
    hemi, labels = brain.hemispheres[0].hemisphere, brain.hemispheres[0].labels()
    middle = (hemi.white_mm + hemi.pial_mm) / 2
    for row in rows:
        place = np.array([float(row[name]) for name in ("x_mm", "y_mm", "z_mm")])
        node = np.abs(middle - place).sum(1).argmin()
        assert np.abs(middle[node] - place).max() < 1e-3
        assert NAMES[labels[node]] == row["area"]
        with open_section(stack.at(int(row["index"]))) as image:
            here = image.window(int(float(row["row_px"])), int(float(row["column_px"])), 40, 40)
        assert here.mean() < 230  # cells, not glass


@pytest.mark.slow
def test_areas_differ_as_their_prototypes_and_uniform_ones_do_not():
    def densities(config) -> dict[str, float]:
        """Neurons per mm^2 of layer III by area, means over fields of two sections."""
        brain, found = config.build(), {}
        for cut in [one for one in brain.cuts if one.fate == "good"][4:40:12]:
            for one in fields_of(brain, cut):
                found.setdefault(one.field.areas[0], []).append(describe(one.field)[3]["neurons_per_mm2"])
        return {area: float(np.mean(values)) for area, values in found.items()}

    plain, even = (
        densities(replace(SMALL, cells=4, uniform=uniform, layer_noise=0.0, profile_effect=0.0))
        for uniform in (False, True)
    )
    assert len(plain) > 4
    spread = [np.std(list(one.values())) / np.mean(list(one.values())) for one in (plain, even)]
    assert spread[0] > 1.5 * spread[1]
    profiles = replace(SMALL, uniform=True).build().hemispheres[0]
    isocortex = [k for k, name in enumerate(profiles.profiles.prototype) if name == "FE"]
    assert len({profiles.density[k].tobytes() for k in isocortex}) == 1
