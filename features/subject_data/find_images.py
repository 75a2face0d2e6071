"""Which image belongs to which subject: the files of a BIDS-like folder, or those that participants.tsv names."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from features.subject_data.bad_subjects import BadSubject
from features.subject_data.nifti import ENDINGS
from meshgnn.config import Config as BaseConfig
from meshgnn.errors import InputError, SettingError
from meshgnn.source.participant_table import MISSING, TABLE, participant_name
from meshgnn.source.text_table import read_text_table


@dataclass(frozen=True, kw_only=True)
class Found:
    """
    Args:
        images: subject -> its image, in order of the table.
        masks: subject -> its brain mask, if masks were asked for.
        bad: subjects without exactly one image, and images without a row.
    """

    images: dict[str, Path] = field(default_factory=dict)
    masks: dict[str, Path] = field(default_factory=dict)
    bad: list[BadSubject] = field(default_factory=list)


class ImageFiles:
    """Finds `sub-*/[ses-*/]PLACE/sub-*_SUFFIX.nii[.gz]` beside participants.tsv."""

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            folder: holds participants.tsv and the folders sub-*.
            suffix: end of an image's name, before .nii or .nii.gz: T1w, FLAIR, T2w, FA, bold, ...
            place: folder of a subject that holds them: anat, func, dwi, ...
            contains: a part of the name that tells several such images of a subject apart (ses-01, desc-preproc, ...).
            column: column of participants.tsv that names the images, instead of the rule above; relative to the folder.
            mask: end of the name of a brain mask beside each image (desc-brain_mask, ...): voxels outside it become 0.
        """

        folder: Path = Path()
        suffix: str = "T1w"
        place: str = "anat"
        contains: str = ""
        column: str = ""
        mask: str = ""

        def __post_init__(self) -> None:
            for name in ("suffix", "place", "contains", "mask"):
                if any(sign in getattr(self, name) for sign in "/\\*?["):
                    raise SettingError(f"<{name}> is a part of a file's name, without / and wildcards")
            if not self.suffix:
                raise SettingError("<suffix> must name the images: T1w, FLAIR, ...")
            if self.place in ("", ".", ".."):
                raise SettingError("<place> must name the folder of the images: anat, func, ...")

        def build(self) -> "ImageFiles":
            return ImageFiles(self)

    def __init__(self, config: Config) -> None:
        self.config = config

    def find(self) -> Found:
        """Raises InputError when there is no table of participants, or it names nobody."""
        c = self.config
        if c.folder == Path():
            raise SettingError(f"no folder of subjects given: set <folder> (it holds {TABLE} and sub-*)")
        path = c.folder / TABLE
        _, rows = read_text_table(path, ["participant_id", *([c.column] if c.column else [])])
        if not rows:
            raise InputError(f"{path}: holds no participant")
        names = [participant_name(path, line, row["participant_id"]) for line, row in rows]
        found, times = Found(), Counter(names)
        for name, number in times.items():
            if number > 1:
                lines = ", ".join(str(line) for (line, _), other in zip(rows, names) if other == name)
                found.bad.append(BadSubject(name=name, reason="duplicate_row", detail=f"{path}: lines {lines}"))
        there = {folder.name for folder in c.folder.glob("sub-*") if folder.is_dir()}
        for name, (_, row) in zip(names, rows):
            if times[name] > 1:
                continue
            images = self._named(row[c.column]) if c.column else self._search(name)
            if len(images) != 1:
                listed = ", ".join(str(image) for image in images)
                reason = "several_images" if images else "no_image"
                detail = f"several images ({listed}); set contains" if images else f"no image of {name} in {c.folder}"
                found.bad.append(BadSubject(name=name, reason=reason, detail=detail))
                continue
            found.images[name] = images[0]
            if c.mask:
                self._mask(name, images[0], found)
        if not c.column:
            for name in sorted(there - set(names)):
                if images := self._search(name):
                    detail = f"has an image, but no row in {path}"
                    found.bad.append(BadSubject(name=name, reason="no_row", file=str(images[0]), detail=detail))
        return found

    def _named(self, cell: str) -> list[Path]:
        path = self.config.folder / cell
        return [path] if cell.lower() not in MISSING and path.is_file() else []

    def _search(self, name: str) -> list[Path]:
        c = self.config
        images: list[Path] = []
        for place in (c.place, f"ses-*/{c.place}"):
            for ending in ENDINGS:
                images += (c.folder / name).glob(f"{place}/{name}_*{c.suffix}{ending}")
        exact = [path for path in images if _stem(path).split("_")[-1] == c.suffix.split("_")[-1]]
        return sorted(path for path in exact if c.contains in path.name)

    def _mask(self, name: str, image: Path, found: Found) -> None:
        masks = [
            path
            for ending in ENDINGS
            for path in image.parent.glob(f"{name}_*{self.config.mask}{ending}")
            if path != image
        ]
        if len(masks) == 1:
            found.masks[name] = masks[0]
            return
        detail = f"{len(masks)} masks *{self.config.mask} beside {image}; exactly one is needed"
        found.bad.append(BadSubject(name=name, reason="no_mask", file=str(image), detail=detail))
        del found.images[name]


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".nii")
