"""A registration that exists is used: true poses give a mesh at least as good as an alignment of our own."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from meshgnn.errors import InputError
from meshgnn.source.poses import Registration, parse_affine, place, read_registration, table_affines
from meshgnn.source.sections import TABLE, SectionStack, read_stack
from reconstruct import Reconstruct, Reconstruction
from tests.reconstruct.phantom import body, config, write_stack

Floats = NDArray[np.float64]
PIXEL = 0.2
AXIS = -46 + PIXEL / 2


def true_matrix(turn: float, shift: Floats, position: float, step: float = PIXEL) -> Floats:
    """[4, 4] from (column, row, 0, 1) of an image of the phantom to mm of its body."""
    c, s = np.cos(turn), np.sin(turn)
    matrix = np.eye(4)
    matrix[:3, 0], matrix[:3, 1], matrix[:3, 2] = [c * step, 0, s * step], [s * step, 0, -c * step], [0, step, 0]
    start = np.array([AXIS - shift[1], AXIS - shift[0]])
    matrix[:3, 3] = [c * start[0] + s * start[1], position, s * start[0] - c * start[1]]
    return matrix


@pytest.fixture(scope="module")
def shaken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[int, Floats]]:
    """A stack whose sections lie about, and where each of them truly lies."""
    folder = tmp_path_factory.mktemp("given") / "stack"
    poses = write_stack(folder, shift_mm=1.5, turn_deg=3, missing=(9, 10))
    stack = read_stack(folder)
    return folder, {n: true_matrix(*poses[n], stack.at(n).position_mm) for n in poses}


def with_affines(folder: Path, out: Path, matrices: dict[int, Floats]) -> Path:
    shutil.copytree(folder, out)
    with (folder / TABLE).open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    with (out / TABLE).open("w", newline="") as handle:
        table = csv.DictWriter(handle, [*rows[0], "affine"])
        table.writeheader()
        for row in rows:
            pose = matrices.get(int(row["index"]))
            told = "" if pose is None else " ".join(f"{value:.10g}" for value in pose[:3].ravel())
            table.writerow({**row, "affine": told})
    return out


def write_quicknii(path: Path, stack: SectionStack, matrices: dict[int, Floats], voxel_mm: float, move: Floats) -> Path:
    """A QuickNII series whose pictures are a quarter of the sections; `move` [3] mm shifts the atlas."""
    slices = []
    for section in stack:
        if section.index not in matrices:
            continue
        rows, columns = section.shape
        m = matrices[section.index]
        corner = m[:3, 3] - (m[:3, 0] + m[:3, 1]) / 2 + move
        span = np.concatenate([corner, m[:3, 0] * columns, m[:3, 1] * rows]) / voxel_mm
        slices.append({
            "filename": section.path.with_suffix(".png").name, "nr": section.index, "width": columns // 4,
            "height": rows // 4, "anchoring": span.tolist(),
        })  # fmt: skip
    about = {"name": "x", "target": f"phantom_{voxel_mm * 1000:g}um.cutlas", "slices": slices}
    path.write_text(json.dumps(about))
    return path


def error_mm(result: Reconstruction, move: Floats | None = None) -> float:
    """Mean distance of the nodes to the middle of the phantom's ribbon."""
    nodes = np.concatenate([item.mesh.vertices_mm[item.cortex] for item in result.midsurfaces])
    nodes = nodes - (0 if move is None else move)
    nodes = nodes[np.abs(nodes[:, 1]) < 18]
    return float(np.abs(body(nodes[:, 0], nodes[:, 1], nodes[:, 2], 1.5)).mean())


@pytest.fixture(scope="module")
def own(shaken: tuple[Path, dict[int, Floats]], tmp_path_factory: pytest.TempPathFactory) -> float:
    settings = config(shaken[0], "align.rigid_rounds=20", "align.affine_rounds=3")
    return error_mm(settings.build().run(tmp_path_factory.mktemp("own")))


@pytest.mark.parametrize("poses", ["keep", "start"])
def test_true_affines_in_the_table_give_a_mesh_as_good_as_our_own(
    shaken: tuple[Path, dict[int, Floats]], own: float, poses: str, tmp_path: Path
) -> None:
    folder = with_affines(shaken[0], tmp_path / "csv", shaken[1])
    result = config(folder, f"source.poses={poses}").build().run(tmp_path / "out")
    assert error_mm(result) <= own + 0.005, (error_mm(result), own)
    for item in result.midsurfaces:
        assert item.report["euler_number"] == 2


def test_quicknii_gives_the_mesh_in_the_space_of_the_atlas(
    shaken: tuple[Path, dict[int, Floats]], own: float, tmp_path: Path
) -> None:
    folder, matrices = shaken
    move = np.array([60.0, 45.0, 55.0])
    file = write_quicknii(tmp_path / "series.json", read_stack(folder), matrices, 0.5, move)
    result = config(folder, f"source.registration={file}", "source.poses=keep").build().run(tmp_path / "out")
    assert error_mm(result, move) <= own + 0.005
    from meshgnn.source.aligned import read_aligned

    aligned = read_aligned(tmp_path / "out", folder)
    for section in aligned:
        expected = matrices[section.index][:3, [0, 1, 3]] + np.outer(move, [0, 0, 1])
        np.testing.assert_allclose(section.to_space, expected, atol=1e-6)
        assert section.position_mm == pytest.approx(expected[1, 2])
    # Nodes lie on the sections where the registration says.
    places = result.locations[0]
    seen = np.flatnonzero(places.observed)[::50]
    points = result.midsurfaces[0].mesh.vertices_mm[seen]
    for node, point in zip(seen, points):
        row, column, _ = aligned.at(int(places.section[node])).mm_to_pixel(point)
        np.testing.assert_allclose([places.row_px[node], places.column_px[node]], [row, column], atol=0.6)


def test_another_registration_is_another_alignment(shaken: tuple[Path, dict[int, Floats]], tmp_path: Path) -> None:
    folder, matrices = shaken
    one = with_affines(folder, tmp_path / "one", matrices)
    runs: list[list[str]] = []
    for assignment in ("source.poses=keep", "source.poses=keep", "source.poses=ignore"):
        result = config(one, assignment, "align.rigid_rounds=2").build().run(tmp_path / "out")
        runs.append(result.report["reused"])
    assert "align" in runs[1]
    assert "align" not in runs[2]


def changed(matrices: dict[int, Floats], index: int, how: Any) -> dict[int, Floats]:
    return {n: how(m.copy()) if n == index else m for n, m in matrices.items()}


def mirror(m: Floats) -> Floats:
    m[:3, 0] *= -1
    return m


def flat(m: Floats) -> Floats:
    m[:3, 1] = m[:3, 0]
    return m


def tilted(m: Floats, degrees: float) -> Floats:
    angle = np.radians(degrees)
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    m[:3] = turn @ m[:3]
    return m


@pytest.mark.parametrize(
    ("how", "words"),
    [
        (mirror, r"mirror the section; mark it as mirrored .* \(1 of 24 sections: 5\)"),
        (flat, r"singular matrices.*: 5\)"),
        (lambda m: m * np.nan, "affine holds numbers that are not finite"),
        (lambda m: tilted(m, 20), "tilted by more than 12 degrees out of the coronal plane"),
        (lambda m: np.vstack([m[:3] * 3, m[3:]]), "change the size more than twofold"),
    ],
)
def test_matrices_that_cannot_be_are_refused(
    shaken: tuple[Path, dict[int, Floats]], how: Any, words: str, tmp_path: Path
) -> None:
    folder = with_affines(shaken[0], tmp_path / "bad", changed(shaken[1], 5, how))
    with pytest.raises(InputError, match=words):
        config(folder).build().check()
    config(folder, "source.poses=ignore").build().check()


def test_a_cell_of_another_count_is_refused() -> None:
    with pytest.raises(InputError, match=r"t\.csv, line 3: affine holds 9 numbers; write 12 or 16"):
        parse_affine("1 0 0 0 1 0 0 0 1", "t.csv, line 3")
    with pytest.raises(InputError, match="12 or 16 numbers parted by blanks"):
        parse_affine("1 0 a", "t.csv")
    expected = [[2, 0, 0, 1], [0, 2, 0, 1], [0, 0, 2, 1], [0, 0, 0, 1]]
    np.testing.assert_array_equal(parse_affine("2 0 0 1 0 2 0 1 0 0 2 1", "t"), expected)


def test_a_mirrored_section_is_turned_round(shaken: tuple[Path, dict[int, Floats]]) -> None:
    """Matrices are those of the image as it is stored; a section marked as mirrored is read turned round."""
    from dataclasses import replace

    stack = read_stack(shaken[0])
    turned = replace(stack, sections=tuple(replace(s, mirrored=s.index == 5) for s in stack))
    with pytest.raises(InputError, match="mirror the section"):
        place(turned, Registration(matrices=shaken[1]), "here")
    stored = changed(shaken[1], 5, lambda m: np.column_stack([
        -m[:, 0], m[:, 1], m[:, 2], m[:, 3] + m[:, 0] * (stack.at(5).shape[1] - 1)]))  # fmt: skip
    placed = place(turned, Registration(matrices=stored), "here").stack
    np.testing.assert_allclose(placed.at(5).to_space, shaken[1][5][:3, [0, 1, 3]], atol=1e-9)


def test_a_tilt_is_reduced_and_told(shaken: tuple[Path, dict[int, Floats]]) -> None:
    stack = read_stack(shaken[0])
    placed = place(stack, Registration(matrices={n: tilted(m.copy(), 4) for n, m in shaken[1].items()}), "here")
    assert placed.tilt_deg == pytest.approx(4, abs=0.05)
    assert placed.residual_mm == pytest.approx(46 * np.sin(np.radians(4)), rel=0.25)  # half of a height of 92 mm
    assert "tilted by up to 4.0 degrees" in placed.remarks[0]
    assert all(abs(section.to_space[1, :2]).max() < 1e-12 for section in placed.stack)


def test_sections_without_a_place_lie_between_their_neighbours(shaken: tuple[Path, dict[int, Floats]]) -> None:
    stack = read_stack(shaken[0])
    even = {n: true_matrix(0.0, np.array([0.1 * n, 0.0]), stack.at(n).position_mm) for n in shaken[1]}
    placed = place(stack, Registration(matrices={n: m for n, m in even.items() if n not in (0, 5, 12)}), "here")
    for n in (0, 5, 12):
        np.testing.assert_allclose(placed.stack.at(n).to_space, even[n][:3, [0, 1, 3]], atol=1e-9)
    assert "3 sections without a place" in placed.remarks[0]
    with pytest.raises(InputError, match="21 of 24 usable sections have no place in it"):
        place(stack, Registration(matrices={n: m for n, m in even.items() if n < 3}), "here")


def test_a_series_that_does_not_fit_is_named(shaken: tuple[Path, dict[int, Floats]], tmp_path: Path) -> None:
    folder, matrices = shaken
    stack = read_stack(folder)
    file = write_quicknii(tmp_path / "s.json", stack, matrices, 0.5, np.zeros(3))
    good = json.loads(file.read_text())

    def told(how: Any) -> str:
        about = json.loads(json.dumps(good))
        how(about)
        file.write_text(json.dumps(about))
        with pytest.raises(InputError) as error:
            read_registration(file, stack)
        return str(error.value)

    assert "does not tell the size of the atlas' voxels" in told(lambda a: a.update(target="atlas"))
    assert "s004.png: an anchoring is nine numbers (O, U, V), here are 6" in told(
        lambda a: a["slices"][4].update(anchoring=[1] * 6)
    )
    assert "not finite" in told(lambda a: a["slices"][4].update(anchoring=[float("nan")] * 9))
    assert "s004.png: each marker needs four numbers" in told(lambda a: a["slices"][4].update(markers=[[1, 2, 3]]))
    assert "each marker needs four numbers" in told(lambda a: a["slices"][4].update(markers=[["a", 2, 3, 4]]))
    assert "another picture" in told(lambda a: a["slices"][4].update(width=50))
    assert "two anchorings for section 3" in told(lambda a: a["slices"].append(a["slices"][3]))
    assert "none of its 24 files" in told(
        lambda a: [one.update(filename=f"other{k}.png", nr=900 + k) for k, one in enumerate(a["slices"])]
    )
    assert "not a series of QuickNII" in told(lambda a: a.pop("slices"))
    good["slices"][4]["filename"], good["slices"][4]["nr"] = "stranger.png", 999
    good["slices"][6].pop("anchoring")
    good["slices"][7]["markers"] = [[1, 2, 3, 4]]
    file.write_text(json.dumps(good))
    found = read_registration(file, stack)
    assert len(found.matrices) == 22
    assert list(found.warps) == [7]
    assert found.remarks == (
        "s.json: 1 of 23 files are not in the stack (stranger.png, ...)", "s.json: 1 slices without an anchoring",
    )  # fmt: skip


def test_the_table_without_affines_is_as_ever(shaken: tuple[Path, dict[int, Floats]]) -> None:
    assert table_affines(read_stack(shaken[0])) == {}
    assert Reconstruct.Config().source.poses == "start"  # type: ignore[union-attr]
