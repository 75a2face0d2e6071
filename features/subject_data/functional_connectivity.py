"""Functional connectivity of subjects as items [E], computed from series of regions."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from features.subject_data.held_items import HeldItems, check_size, standardised
from features.subject_data.joining import training_rows
from features.subject_data.series_files import Series, SeriesSource, read_cohort
from meshgnn.errors import InputError, SettingError
from meshgnn.source.participant_table import Participants

Kind = Literal["pearson", "partial"]
MOST = 0.999  # of a correlation, before Fisher's z


class FunctionalConnectivity(HeldItems):
    """Items [E = R(R-1)/2] float32, Fisher's z = arctanh(r) of the correlations of R regions over the whole run, the
    upper triangle row by row; a `meshgnn.sockets.SubjectData`.

    Correlations have no unit: scaling a region changes nothing. One that does not change is correlated with none.
    Subjects whose series cannot be used are named in `bad`.
    """

    kind: ClassVar[str] = "series"

    @dataclass(frozen=True, kw_only=True)
    class Config(SeriesSource):
        """
        Args:
            correlation: pearson, or partial: of two regions given all others, from a covariance shrunk by Ledoit & Wolf
                (2004, doi:10.1016/S0047-259X(03)00096-4), which can be inverted with fewer frames than regions.
            standardise: every pair of regions to mean 0 and standard deviation 1 by the training subjects.
            fewest: frames that a series needs.
        """

        correlation: Kind = "pearson"
        standardise: bool = True
        fewest: int = 10

        def __post_init__(self) -> None:
            super().__post_init__()
            if self.fewest < 3:
                raise SettingError("<fewest> must be at least 3: two frames are always correlated")

        def build(self, participants: Participants, train: NDArray[np.bool_]) -> "FunctionalConnectivity":
            """Raises InputError: nobody has a usable series, or a bad one where `bad` is refuse."""
            return FunctionalConnectivity(self, participants, train)

        def item_format(self) -> dict[str, Any]:
            own = {"connectivity": self.correlation, "fisher": True, "standardise": self.standardise}
            return own | self.cleaning()

    def __init__(self, config: Config, participants: Participants, train: NDArray[np.bool_]) -> None:
        super().__init__()
        self.config = config
        found = read_cohort(config, participants, self._leave)
        for name in [name for name, one in found.items() if len(one.values) < config.fewest]:
            length = len(found.pop(name).values)
            self._leave(name, "too_short", config.folder, f"{name}: has {length} frames, {config.fewest} are needed")
        self._observe(participants, found, config.bad, config.keep, config.folder, "a usable series")
        series = [found[name] for name in participants.ids if name in found]
        self.regions: tuple[str, ...] = max((one.names for one in series), key=len)
        count = series[0].values.shape[1]
        check_size(len(series), count * (count - 1) // 2, f"connectivity of {count} regions")
        upper = np.triu_indices(count, 1)
        self._values = np.stack([fisher(one, config.correlation)[upper] for one in series]).astype(np.float32)
        if config.standardise:
            self._values = standardised(self._values, self._row[training_rows(participants, train, self.observed)])


def fisher(series: Series, kind: Kind) -> NDArray[np.float64]:
    """[R, R] Fisher's z of the correlations, symmetric, 0 on the diagonal; finite for any number of frames."""
    values = series.standardised()
    if kind == "pearson":
        found = values.T @ values / len(values)
    elif kind == "partial":
        found = partial_correlation(values)
    else:
        raise InputError(f"correlations are pearson or partial, not {kind!r}")
    found = (found + found.T) / 2
    np.fill_diagonal(found, 0)
    return np.asarray(np.arctanh(np.clip(found, -MOST, MOST)))


def partial_correlation(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """[R, R] of standardised series [T, R]: -P_ij / sqrt(P_ii P_jj) of the inverse P of the shrunk covariance."""
    from sklearn.covariance import LedoitWolf

    shrunk = LedoitWolf(assume_centered=True).fit(values).covariance_
    precision = np.linalg.inv(shrunk)
    length = np.sqrt(np.diag(precision))
    return np.asarray(-precision / length / length[:, None])
