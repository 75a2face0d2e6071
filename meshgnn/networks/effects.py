"""What each input adds to a score: linear mixed models of a study's scores, by statsmodels.

    y_tm = b_0 + sum_k b_k x_mk + u_t + e_tm,   u_t ~ N(0, s_u^2),   e_tm ~ N(0, s_e^2)

t targets of one domain, m models; x_mk is 1 where a model gets input k. Estimates and intervals by restricted maximum
likelihood, p by likelihood-ratio tests of models fitted by maximum likelihood. Different scores (balanced accuracy, R2)
are never in one fit. Models of a study share their tested people, so their errors are not independent: intervals and p
hold for other models of these people, not for other people. Where predictions are stored, a second interval is for
other people: scores of resampled people (`meshgnn.networks.people`), b fitted again by generalised least squares with
s_u and s_e as they were estimated; the middle 95 % of the draws.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from meshgnn.errors import InputError
from meshgnn.networks.models import Model, Models
from meshgnn.networks.people import StoredPeople
from meshgnn.progress import Progress, silent
from meshgnn.results import EffectRow

LEAST_FREE = 3  # models more than coefficients that a fit needs
SAME_SCORE = 0.001  # a score made again may differ by so much from the table's


@dataclass(frozen=True, kw_only=True, eq=False)
class MixedFit:
    """A linear mixed model with a random intercept.

    Args:
        estimates, errors: [P] coefficients and their standard errors (REML).
        p: [P] of likelihood-ratio tests (ML).
        between, within: s_u and s_e.
        free: degrees of freedom of the intervals: rows - groups - coefficients but the intercept.
    """

    estimates: NDArray[np.float64]
    errors: NDArray[np.float64]
    p: NDArray[np.float64]
    between: float
    within: float
    free: int

    def interval(self, level: float = 0.95) -> NDArray[np.float64]:
        """[P, 2] by Student's t; exact in balanced designs for coefficients within groups."""
        half = stats.t.ppf(0.5 + level / 2, self.free) * self.errors
        return np.stack([self.estimates - half, self.estimates + half], axis=1)


def mixed_model(y: NDArray[np.float64], x: NDArray[np.float64], group: NDArray[np.integer]) -> MixedFit:
    """Fit y [M] on x [M, P] (an intercept is added and not reported) with an intercept per group [M].

    Where one group stands alone, or groups do not differ beyond chance, s_u is 0 and the fit is least squares.

    Raises:
        InputError: too few rows, columns that are constant or combinations of others.
    """
    y, x = np.array(y, np.float64), np.array(x, np.float64)
    design = np.c_[np.ones(len(y)), x]
    count = len(np.unique(group))
    free = len(y) - count - x.shape[1]
    if free < LEAST_FREE:
        raise InputError(f"{len(y)} models of {count} targets are too few for {x.shape[1]} effects")
    if np.linalg.matrix_rank(design) < design.shape[1]:
        raise InputError("an input stands in all models or in none, or always comes with another one")
    if count < 2:
        return _one_group(y, design, free)
    fitted = _fitted(y, design, group, restricted=True)
    full = _fitted(y, design, group, restricted=False).llf
    less = [_fitted(y, np.delete(design, k + 1, axis=1), group, restricted=False).llf for k in range(x.shape[1])]
    return MixedFit(
        estimates=np.asarray(fitted.fe_params)[1:], errors=np.asarray(fitted.bse_fe)[1:],
        p=stats.chi2.sf(np.maximum(2 * (full - np.array(less)), 0), 1),
        between=float(np.sqrt(max(np.asarray(fitted.cov_re)[0, 0], 0))), within=float(np.sqrt(fitted.scale)), free=free,
    )  # fmt: skip


def _fitted(y: NDArray[np.float64], design: NDArray[np.float64], group: NDArray[np.integer], restricted: bool) -> Any:
    """statsmodels' results. A variance of 0 between groups is a result, not a failure: its warnings are dropped."""
    from statsmodels.regression.mixed_linear_model import MixedLM  # here: it takes a second to import

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return MixedLM(y, design, groups=group).fit(reml=restricted)
        except np.linalg.LinAlgError as error:
            raise InputError(f"the mixed model of {len(y)} models cannot be fitted ({error})") from None


def _one_group(y: NDArray[np.float64], design: NDArray[np.float64], free: int) -> MixedFit:
    """Least squares, and t tests in place of likelihood ratios."""
    inverse = np.linalg.inv(design.T @ design)
    estimates = inverse @ design.T @ y
    rest = y - design @ estimates
    scale = float(rest @ rest) / free
    errors = np.sqrt(scale * np.diag(inverse))
    with np.errstate(divide="ignore", invalid="ignore"):
        p = 2 * stats.t.sf(np.abs(estimates / errors), free)
    return MixedFit(
        estimates=estimates[1:], errors=errors[1:], p=p[1:], between=0.0, within=float(np.sqrt(scale)), free=free
    )


def domain_effects(
    models: Models, domains: Mapping[str, str], progress: Progress = silent, people: StoredPeople | None = None
) -> tuple[tuple[EffectRow, ...], tuple[str, ...]]:
    """Effects of every input on the scores of every domain's targets, and what could not be fitted.

    Args:
        domains: by target; targets of "" are one domain.
        people: what models said of single people, if that is known.

    Inputs that all models of a domain's targets get, or none, have no effect that could be told; inputs that always
    come together are one. Both are noted.
    """
    found: list[EffectRow] = []
    notes: list[str] = []
    groups = list(
        dict.fromkeys((domains.get(row.target, ""), row.score_name) for row in models.rows if row.score is not None)
    )
    for done, (domain, score_name) in enumerate(groups):
        progress("mixed models", done, len(groups))
        rows = [
            row
            for row in models.rows
            if row.score is not None and row.score_name == score_name and domains.get(row.target, "") == domain
        ]
        where = f"{domain or 'no domain'} ({score_name})"
        names, x, told = _indicators([(*row.inputs, *row.domains) for row in rows])
        notes += [f"{where}: {text}" for text in told]
        targets = {name: k for k, name in enumerate(dict.fromkeys(row.target for row in rows))}
        group = np.array([targets[row.target] for row in rows])
        if not names:
            notes.append(f"{where}: no input differs between its {len(rows)} models")
            continue
        try:
            fit = mixed_model(np.array([row.score for row in rows], np.float64), x, group)
        except InputError as error:
            notes.append(f"{where}: {error}")
            continue
        if np.allclose([row.score for row in rows], rows[0].score):  # type: ignore[arg-type]
            notes.append(f"{where}: all {len(rows)} scores are the same")
            continue
        note = "s_u is 0: targets do not differ beyond chance" if fit.between < 1e-6 and len(targets) > 1 else ""
        note = "one target: least squares" if len(targets) == 1 else note
        spans, about = _over_people(fit, x, group, rows, people)
        for k, (low, high) in enumerate(fit.interval()):
            found.append(
                EffectRow(
                    domain=domain, score_name=score_name, input=names[k], estimate=float(fit.estimates[k]),
                    low=float(low), high=float(high), p=float(fit.p[k]), q=1.0, between=fit.between, within=fit.within,
                    targets=len(targets), models=len(rows), note=note, people=about,
                    people_low=None if spans is None else float(spans[k, 0]),
                    people_high=None if spans is None else float(spans[k, 1]),
                )
            )  # fmt: skip
    progress("mixed models", len(groups), len(groups))
    if found:
        q = stats.false_discovery_control([one.p for one in found])
        found = [replace(one, q=float(value)) for one, value in zip(found, q)]
    return tuple(found), tuple(notes)


def refitted(
    y: NDArray[np.float64], x: NDArray[np.float64], group: NDArray[np.integer], fit: MixedFit
) -> NDArray[np.float64]:
    """[P, D] coefficients of scores y [M, D] by generalised least squares, with the standard deviations of a fit."""
    design = np.c_[np.ones(len(x)), x]
    same = (group[:, None] == group).astype(np.float64)
    size = same.sum(1, keepdims=True)
    ratio = (fit.between / max(fit.within, 1e-9)) ** 2
    weights = np.eye(len(x)) - same * (ratio / (1 + size * ratio))  # inverse of I + ratio 11', by group
    return np.linalg.solve(design.T @ weights @ design, design.T @ weights @ y)[1:]


def _over_people(
    fit: MixedFit,
    x: NDArray[np.float64],
    group: NDArray[np.integer],
    rows: Sequence[Model],
    people: StoredPeople | None,
) -> tuple[NDArray[np.float64] | None, str]:  # fmt: skip
    """[P, 2] percentile intervals over resampled people, and how many there were, or why there are none."""
    if people is None:
        return None, "no predictions stored"
    if why := people.missing(rows):
        return None, why
    scores = people.drawn(rows)
    told = np.isfinite(scores).all(0)
    if told.sum() < people.draws / 2:
        return None, f"{people.draws - int(told.sum())} of {people.draws} draws cannot be scored"
    about = f"{people.people(rows)} people, {int(told.sum())} draws"
    # The table's score is a mean over seeds, that of stored predictions is of the mean over seeds.
    away = float(np.abs(people.again(rows) - np.array([row.score for row in rows], np.float64)).max())
    about += f"; scores of stored predictions differ by up to {away:.3f}" if away > SAME_SCORE else ""
    return np.percentile(refitted(scores[:, told], x, group, fit), [2.5, 97.5], axis=1).T, about


def _indicators(sets: Sequence[tuple[str, ...]]) -> tuple[list[str], NDArray[np.float64], list[str]]:
    """Names of the inputs, [M, P] which model has which, and what was joined or left out."""
    everything = list(dict.fromkeys(name for one in sets for name in one))
    table = np.array([[name in one for name in everything] for one in sets], np.float64).reshape(len(sets), -1)
    joined: dict[tuple[float, ...], list[str]] = {}
    constant = []
    for k, name in enumerate(everything):
        column = table[:, k]
        if column.min() == column.max():
            constant.append(name)
        else:
            joined.setdefault(tuple(column), []).append(name)
    notes = [f"{', '.join(constant)} stand in all models, so that their effect cannot be told"] if constant else []
    names: list[str] = []
    columns: list[tuple[float, ...]] = []
    for values, same in joined.items():
        trial = np.array([*columns, values]).T
        if np.linalg.matrix_rank(np.c_[np.ones(len(sets)), trial]) < trial.shape[1] + 1:
            notes.append(f"{' + '.join(same)} follows from the other inputs, so that its effect cannot be told")
            continue
        names.append(" + ".join(same))
        columns.append(values)
    return names, np.array(columns).T.reshape(len(sets), -1), notes
