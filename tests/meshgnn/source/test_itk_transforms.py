"""Transform files of ITK and elastix: matrices are those that SimpleITK 2.5.7 applies; what is no affine is refused."""

from pathlib import Path

import numpy as np
import pytest

from meshgnn.errors import InputError
from meshgnn.source.poses import read_registration
from meshgnn.source.poses.itk import read_transform
from meshgnn.source.sections import AXES, Section, SectionStack

HEAD = "#Insight Transform File V1.0\n"
_ABOUT2, _ABOUT3 = "FixedParameters: 10 20", "FixedParameters: 10 20 30"


def one(kind: str, dimension: int, parameters: str, fixed: str) -> str:
    return f"Transform: {kind}_double_{dimension}_{dimension}\nParameters: {parameters}\n{fixed}\n\n"


AFFINE = one("AffineTransform", 2, "1.1 0.2 -0.1 0.9 3 4", _ABOUT2)
EULER = one("Euler2DTransform", 2, "0.3 3 4", _ABOUT2)
# Text, and what SimpleITK's TransformPoint makes of (1, 2[, 3]).
KNOWN = {
    "affine": (AFFINE, (-0.5, 8.7)),
    "euler": (EULER, (9.721335317773658, 4.1442613357870375)),
    "similarity": (one("Similarity2DTransform", 2, "1.2 0.3 3 4", _ABOUT2), (9.06560238132839, 0.17311360294444356)),
    "composite": (
        "Transform: CompositeTransform_double_2_2\n" + AFFINE + EULER,
        (9.522321116708431, 9.757701670430968),
    ),
    "translation": (one("TranslationTransform", 2, "3 4", "FixedParameters:"), (4.0, 6.0)),
    "euler 3D": (
        one("Euler3DTransform", 3, "0.3 0.2 0.1 3 4 5", _ABOUT3 + " 0"),
        (-0.12501096496054798, 12.728918729056904, 6.10888001213069),
    ),
    "euler 3D, z y x": (
        one("Euler3DTransform", 3, "0.3 0.2 0.1 3 4 5", _ABOUT3 + " 1"),
        (-1.006774606324122, 13.331345777241093, 6.294772563122888),
    ),
    "versor": (one("VersorRigid3DTransform", 3, "0.1 0.2 0.3 3 4 5", _ABOUT3), (4.0, 6.0, 8.0)),
    "similarity 3D": (one("Similarity3DTransform", 3, "0.1 0.2 0.3 3 4 5 1.1", _ABOUT3), (3.1, 4.2, 5.3)),
}


@pytest.mark.parametrize("name", KNOWN)
def test_itk_transforms_map_points_as_simpleitk_does(name: str, tmp_path: Path) -> None:
    text, expected = KNOWN[name]
    (tmp_path / "a.tfm").write_text(HEAD + text)
    point = np.append([1.0, 2.0, 3.0][: len(expected)], 1.0)
    np.testing.assert_allclose((read_transform(tmp_path / "a.tfm") @ point)[:-1], expected, atol=1e-12)


def elastix(kind: str, parameters: str, centre: str, first: str = "NoInitialTransform", dimension: int = 2) -> str:
    return (
        f'(Transform "{kind}")\n(NumberOfParameters {len(parameters.split())})\n(TransformParameters {parameters})\n'
        f'(InitialTransformParameterFileName "{first}")\n(HowToCombineTransforms "Compose")\n'
        f"(FixedImageDimension {dimension})\n(MovingImageDimension {dimension})\n(CenterOfRotationPoint {centre})\n"
    )


def test_elastix_applies_the_transform_it_started_from_first(tmp_path: Path) -> None:
    (tmp_path / "TransformParameters.0.txt").write_text(elastix("EulerTransform", "0.3 3 4", "10 20"))
    last = tmp_path / "TransformParameters.1.txt"
    last.write_text(elastix("AffineTransform", "1.1 0.2 -0.1 0.9 3 4", "10 20", "/elsewhere/TransformParameters.0.txt"))
    np.testing.assert_allclose((read_transform(last) @ [1, 2, 1])[:2], KNOWN["composite"][1], atol=1e-12)


@pytest.mark.parametrize(("text", "words"), [
    (HEAD + one("AffineTransform", 2, "1 0 0 1 3", _ABOUT2), "Affine in 2D has 6 parameters, the file holds 5"),
    (HEAD + one("AffineTransform", 2, "1 0 x 1 3 4", _ABOUT2), "Parameters holds something that is no number"),
    (HEAD + one("BSplineTransform", 2, "1 0", _ABOUT2), "BSpline transforms are not read"),
    (HEAD + one("VersorRigid3DTransform", 3, "1 1 1 3 4 5", _ABOUT3), "its versor is longer than 1"),
    (HEAD, "holds no transform"),
    ("hello", "neither an ITK transform file nor elastix"),
    (elastix("BSplineTransform", "1 2", "0 0"), "BSpline transforms are not read"),
    (elastix("EulerTransform", "0.3 3 4", "10 20", "a.txt"), "in a circle"),
    (elastix("EulerTransform", "0.3 3 4", "10 20", "gone.txt"), "gone.txt: cannot be read"),
    (elastix("EulerTransform", "0.3 3 4", "10"), "centre of rotation has 1 coordinates"),
])  # fmt: skip
def test_what_is_no_affine_transform_is_refused(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(InputError, match=words):
        read_transform(tmp_path / "a.txt")


def stack(folder: Path) -> SectionStack:
    return SectionStack(
        sections=tuple(
            Section(path=folder / f"s{n:03d}.tif", index=n, position_mm=2.0 * n, pixel_um=50, thickness_um=20,
                    shape=(80, 100)) for n in (1, 2)
        ),
        space="x", folder=folder,
    )  # fmt: skip


@pytest.mark.parametrize("section_is", ["moving", "fixed"])
def test_a_folder_of_transforms_places_the_sections(section_is: str, tmp_path: Path) -> None:
    """Column 6, row 4 of a section of 50 um lies at (0.3, 0.2) mm: the transform, or its inverse, takes it on."""
    (tmp_path / "s001.tfm").write_text(HEAD + EULER)
    (tmp_path / "s002_TransformParameters.0.txt").write_text(elastix("EulerTransform", "0.3 3 4", "10 20"))
    forward = read_transform(tmp_path / "s001.tfm")
    matrix = forward if section_is == "fixed" else np.linalg.inv(forward)
    found = read_registration(tmp_path, stack(tmp_path), section_is=section_is).matrices  # type: ignore[arg-type]
    column, row, along = AXES["coronal"]
    for n in (1, 2):
        x, y, _ = matrix @ [0.3, 0.2, 1]
        np.testing.assert_allclose((found[n] @ [6, 4, 0, 1])[:3], column * x + row * y + along * 2.0 * n, atol=1e-12)


def test_transforms_of_space_are_turned_from_itk_axes(tmp_path: Path) -> None:
    text = one("AffineTransform", 3, "1 0 0 0 0 -1 0 1 0 5 6 7", "FixedParameters: 0 0 0")
    for n in (1, 2):
        (tmp_path / f"s00{n}.tfm").write_text(HEAD + text)
    found = read_registration(tmp_path, stack(tmp_path), section_is="fixed").matrices
    # (0.3, 0.2, 0) mm of the image -> (0.3 + 5, 6, 0.2 + 7) of ITK -> x and y turned round.
    np.testing.assert_allclose((found[1] @ [6, 4, 0, 1])[:3], [-5.3, -6.0, 7.2], atol=1e-12)


def test_a_folder_that_does_not_fit_is_named(tmp_path: Path) -> None:
    (tmp_path / "other.tfm").write_text(HEAD + EULER)
    with pytest.raises(InputError, match="none of its 1 transforms"):
        read_registration(tmp_path, stack(tmp_path))
    for name in ("s001.tfm", "s001.txt"):
        (tmp_path / name).write_text(HEAD + EULER)
    with pytest.raises(InputError, match=r"s001\.tfm and s001\.txt are both of section 1"):
        read_registration(tmp_path, stack(tmp_path))
    (tmp_path / "s001.txt").unlink()
    (tmp_path / "s001.tfm").write_text(HEAD + one("AffineTransform", 2, "1 2 2 4 0 0", _ABOUT2))
    with pytest.raises(InputError, match=r"s001\.tfm: its matrix is singular"):
        read_registration(tmp_path, stack(tmp_path))
    with pytest.raises(InputError, match="no such file or folder"):
        read_registration(tmp_path / "gone", stack(tmp_path))
