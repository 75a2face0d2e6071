"""Every method of a run on areas of nodes: baselines and networks on the same inputs, and what they predict.

tables/baselines.safetensors     NAME/NUMBER [V, K] of every seed; out_of_fold/NAME/0 [N, K] of models with such votes
tables/baselines.json            what each of them sees, how many fits one prediction rests on, what it chose for itself
tables/out_of_fold.safetensors   NETWORK/SEED [N, K], and `labels` [N] of the labelled training nodes
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from meshgnn.data.model_inputs import ModelInputs, edges_among
from meshgnn.experiment.protocol_scores import Method
from meshgnn.experiment.run_folder import RunFolder
from meshgnn.experiment.summary import HISTORY, write_history
from meshgnn.experiment.training import MAIN, Network, Seen, train_ensembles
from meshgnn.store import read_arrays, read_json, write_arrays, write_json
from meshgnn.train.baselines import fixed_recipes
from meshgnn.train.ensemble import Ensemble
from meshgnn.train.fit import TrainerConfig
from meshgnn.train.intervals import Maps
from meshgnn.train.place_prior import PlacePrior
from meshgnn.train.same_inputs import Fitted, SameInputs
from meshgnn.train.stored_baselines import FILE as STORED_BASELINES
from meshgnn.train.stored_baselines import StoredBaselines

PRIOR_BY = {"registered": "registered spheres", "coordinates": "coordinates"}
Change = Callable[[NDArray[np.floating]], NDArray[np.floating]]  # of a brain's map [V, K]
NOT_ADAPTED, WITHOUT_PRIOR = "not_adapted", "without_prior"
BASELINES, ABOUT, OUT_OF_FOLD = (
    "tables/baselines.safetensors",
    "tables/baselines.json",
    "tables/out_of_fold.safetensors",
)


class Baselines:
    """Fits baselines one after another and keeps what they predict."""

    def __init__(self) -> None:
        self.votes: dict[str, NDArray[Any]] = {}
        self.about: dict[str, dict[str, Any]] = {}

    def fit_recipes(self, seen: ModelInputs, seeds: Sequence[int], position: str) -> None:
        """Fixed recipes. Args: position: the coordinates they see, in words."""
        for name, recipe in tqdm(
            fixed_recipes(seen, position).items(), desc="fixed recipes", disable=None, leave=False
        ):
            for number, seed in enumerate(seeds if recipe.seeded else seeds[:1]):
                self.votes[f"{name}/{number}"] = recipe.run(seed)
            self.about[name] = {"sees": recipe.sees, "fits": 1, "chosen": {}}

    def fit_same_inputs(self, same: SameInputs) -> dict[str, Fitted]:
        """Models on exactly the network's inputs."""
        fitted = {}
        for name, fit in tqdm(list(same.rows()), desc="baselines on the same inputs", disable=None, leave=False):
            fitted[name] = one = fit()
            self.votes |= {f"{name}/0": one.probabilities, f"out_of_fold/{name}/0": one.out_of_fold}
            self.about[name] = {"sees": one.sees, "fits": 1, "chosen": one.chosen}
        return fitted

    def save(self, run: RunFolder) -> list[str]:
        """The files written."""
        write_arrays(run / BASELINES, self.votes)
        write_json(run / ABOUT, self.about)
        return [BASELINES, ABOUT]


def stored_for(variant: str) -> str:
    """File in `tables` of what adapts the maps of a variant's networks to new brains."""
    return STORED_BASELINES if variant == MAIN else f"{variant}_{STORED_BASELINES}"


def fit_baselines(
    run: RunFolder, networks: Mapping[str, Network], seen: Callable[[Network], Seen], seeds: Sequence[int], folds: int,
    position: str,
) -> list[str]:  # fmt: skip
    """Fit the baselines of the main network, and for every variant what adapts its maps to new brains; files written.

    Args:
        seen: what a network sees.
        seeds: of recipes that draw numbers; the first one's folds are those of the models on the same inputs.
        position: the coordinates that recipes see, in words.
    """
    found, models = Baselines(), seen(networks[MAIN]).models
    found.fit_recipes(models, seeds, position)
    same, files = SameInputs(models, range(folds), seeds[0]), [f"tables/{STORED_BASELINES}"]
    StoredBaselines.of(same, found.fit_same_inputs(same)).save(run / files[0])
    for variant, network in {one.variant: one for one in networks.values() if one.variant != MAIN}.items():
        same = SameInputs(seen(network).models, range(folds), seeds[0])
        rows = dict(same.rows())
        if "adapted_prior_lda" in rows and same.inputs.coordinates.shape[1]:
            fitted = {name: rows[name]() for name in ("position_prior", "adapted_prior_lda")}
            files.append(f"tables/{stored_for(variant)}")
            StoredBaselines.of(same, fitted).save(run / files[-1])
    return [*found.save(run), *files]


def train_networks(
    run: RunFolder, networks: Mapping[str, Network], seen: Callable[[Network], Seen], trainer: TrainerConfig
) -> list[str]:
    """Train all networks and keep ensembles, votes out of fold, and the history of the main one.

    Args:
        seen: what a network sees, with the folds of its seeds.

    Raises:
        InputError: training diverged.
    """
    wanted = {name: (network, seen(network)) for name, network in networks.items()}
    for name, (_, own) in wanted.items():
        run.say(f"  {name}: {len(own.names)} features{' and coordinates' if own.config.coordinates else ''}")
    trained = train_ensembles(run, wanted, trainer)
    first = wanted[MAIN][1].models
    files: list[str] = []
    votes: dict[str, NDArray[Any]] = {"labels": first.labels[first.known]}
    for name, one in trained.items():
        place = networks[name].place
        files += [f"{place}{file}" for file in one.ensemble.save(run / place)]
        votes |= {f"{name}/{seed}": found for seed, found in one.out_of_fold.items()}
    write_arrays(run / OUT_OF_FOLD, votes)
    write_history(run / HISTORY, trained[MAIN].history)
    return [*files, OUT_OF_FOLD, HISTORY]


def validated_labels(run: RunFolder) -> NDArray[np.int32]:
    """[N] true classes of the labelled training nodes, in the order of votes out of fold."""
    return read_arrays(run / OUT_OF_FOLD)["labels"].astype(np.int32)


def trained_methods(
    run: RunFolder, networks: Mapping[str, Network], seen: Callable[[Network], Seen], places: Sequence[slice],
    trainer: TrainerConfig, adapt: Sequence[bool] = (),
) -> dict[str, Method]:  # fmt: skip
    """Every network with its predictions.

    Args:
        seen: what a network sees.
        places: rows of each brain.
        adapt: to which brains the maps of networks that see positions are adapted (`StoredBaselines.adapted`), each by
            what it sees; then the main network's maps before that are a row of their own. Empty: to no brain.
    """
    found: dict[str, Method] = {}
    votes = read_arrays(run / OUT_OF_FOLD)
    files = {one.variant: run / "tables" / stored_for(one.variant) for one in networks.values()} if any(adapt) else {}
    stored = {variant: StoredBaselines.load(path) for variant, path in files.items() if path.is_file()}
    for name, network in networks.items():
        models = seen(network).models
        ensemble = Ensemble.load(run / network.place)
        by_seed = ensemble.predict_arrays(models.features, models.coordinates, models.edges)
        method = Method(
            maps=[[by_seed[seed][rows] for rows in places] for seed in network.seeds],
            sees=network.sees,
            fits=trainer.folds,
            folds=[votes[f"{name}/{seed}"] for seed in network.seeds],
            kind="baseline" if network.control else "network",
            trained=True,
        )
        found[name] = method
        if ensemble.places is not None:
            words = f"position prior by {PRIOR_BY[ensemble.places.on]}"
            found[name] = _changed(method, [_joined(ensemble.places, models, rows) for rows in places], words)
            if name == MAIN:
                found[WITHOUT_PRIOR] = replace(method, folds=None)
        kept = stored.get(network.variant)
        if kept is None or not kept.adapts or not models.coordinates.shape[1]:
            continue
        mesh = seen(networks[MAIN]).models.edges  # a control may see others
        changes = [_adapted(kept, models, rows, mesh) if wanted else _same for rows, wanted in zip(places, adapt)]
        found[name] = _changed(method, changes, "whole brains at once")
        if name == MAIN:
            found[NOT_ADAPTED] = replace(method, folds=None)
    return found


def _changed(method: Method, changes: Sequence[Change], words: str) -> Method:
    """The same with one change of the maps of every brain, whatever the seed; `words` say what it sees besides."""
    maps: list[Maps] = [[change(own) for change, own in zip(changes, one)] for one in method.maps]
    return replace(method, maps=maps, sees=f"{method.sees}, {words}")


def _same(votes: NDArray[np.floating]) -> NDArray[np.floating]:
    return votes


def _joined(prior: PlacePrior, models: ModelInputs, rows: slice) -> Change:
    """Maps of a brain joined with the prior outside the training part."""
    asked = ~models.part[rows]
    where = prior.places(models.coordinates[rows][asked], models.registered[rows][asked])
    if where is None:
        return _same
    log_prior = prior.log_p(where)

    def change(votes: NDArray[np.floating]) -> NDArray[np.floating]:
        found = np.array(votes, np.float32)
        found[asked] = prior.joined(found[asked], log_prior)
        return found

    return change


def _adapted(kept: StoredBaselines, models: ModelInputs, rows: slice, mesh: NDArray[np.int32]) -> Change:
    """Maps of a brain adapted to it; mesh: edges [2, E] of all brains."""
    here = np.zeros(len(models.labels), bool)
    here[rows] = True
    log_prior, edges = kept.log_prior(models.coordinates[rows]), edges_among(mesh, here)
    return lambda votes: kept.adapted(votes, models.features[rows], log_prior, edges)


def stored_methods(run: RunFolder, places: Sequence[slice]) -> dict[str, Method]:
    """Every baseline with its predictions. Args: places: rows of each brain."""
    found, stored = {}, read_arrays(run / BASELINES)
    for name, about in read_json(run / ABOUT).items():
        keys = sorted(key for key in stored if key.rsplit("/", 1)[0] == name)  # the file keeps no order
        own = sorted(key for key in stored if key.rsplit("/", 1)[0] == f"out_of_fold/{name}")
        found[name] = Method(
            maps=[[stored[key][rows] for rows in places] for key in keys],
            sees=str(about["sees"]),
            fits=int(about["fits"]),
            chosen=about["chosen"],
            folds=[stored[key] for key in own] or None,
        )
    return found
