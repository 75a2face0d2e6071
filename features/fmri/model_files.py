"""What a phase leaves behind: network.safetensors, network.json, and the rule by which the next phase starts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from safetensors.torch import save

from features.fmri.autoencoder import RunAutoencoder
from features.transfer.pretrained import Loaded, Pretrained
from features.weight_files import read_weights
from meshgnn.config import from_plain, to_plain
from meshgnn.errors import InputError
from meshgnn.store import read_json, write_json, written_aside

FORMAT = 1
WEIGHTS, ABOUT = "network.safetensors", "network.json"
Phase = Literal["autoencoder", "transformer"]
PHASES: tuple[Phase, ...] = ("autoencoder", "transformer")


@dataclass(frozen=True, kw_only=True, eq=False)
class PhaseResult:
    """A finished phase on disk.

    Args:
        folder: of the pair.
        phase: autoencoder or transformer.
        network: config of the network.
        shape: of a window (C, X, Y, Z, F).
        sha256: of the file of weights.
        untrained: names of weights that no objective reached; they are not in the file.
        started_from: what became of the file that it started from: lists of names carried, changed, new and dropped,
            and its hash; {} where it started from none.
        history: of every validation: step, loss, validation, and the value of every objective.
        training: key and settings.
    """

    folder: Path
    phase: Phase
    network: RunAutoencoder.Config
    shape: tuple[int, ...]
    sha256: str
    untrained: tuple[str, ...]
    started_from: Mapping[str, Any]
    history: Sequence[Mapping[str, Any]]
    training: Mapping[str, Any]

    def start(self) -> Pretrained.Config:
        """The weights for the next phase, and for `RunTransformer` as the encoder of traits.

        The rule: an autoencoder gives the encoder of frames, and everything of the transformer is new; an autoencoder
        with a transformer gives both, but what it never trained.
        """
        fresh = ("sequence.",) if self.phase == "autoencoder" else self.untrained
        return Pretrained.Config(file=self.folder / WEIGHTS, sha256=self.sha256, fresh=fresh)


def name_map(loaded: Loaded) -> dict[str, Any]:
    """What became of the weights of a file, by names: carried, changed (fitted to another shape), new, dropped."""
    return {
        "carried": list(loaded.taken), "changed": list(loaded.changed), "new": list(loaded.kept),
        "dropped": list(loaded.unused), "sha256": loaded.sha256,
    }  # fmt: skip


def save_phase(
    folder: Path, network: RunAutoencoder, phase: Phase, *, untrained: Sequence[str], started_from: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]], training: Mapping[str, Any],
) -> PhaseResult:  # fmt: skip
    """Write the pair; weights first, so that network.json never stands alone. Arguments as in `PhaseResult`."""
    state = network.state_dict()
    weights = {name: one.detach().cpu().contiguous() for name, one in state.items() if name not in untrained}
    with written_aside(folder / WEIGHTS) as aside:
        aside.write_bytes(save(weights))
    about = {
        "format": FORMAT, "record": "RunAutoencoder", "phase": phase, "config": to_plain(network.config),
        "shape": list(network.shape), "sha256": read_weights(folder / WEIGHTS)[1], "untrained": list(untrained),
        "started_from": dict(started_from), "history": list(history), "training": dict(training),
    }  # fmt: skip
    write_json(folder / ABOUT, about)
    return read_phase(folder)


def read_phase(folder: Path) -> PhaseResult:
    """What `save_phase` wrote.

    Raises:
        InputError: a missing or damaged file, another kind of record, weights of another network.
    """
    path, about = Path(folder) / ABOUT, read_json(Path(folder) / ABOUT)
    if not isinstance(about, dict) or about.get("record") != "RunAutoencoder" or about.get("format") != FORMAT:
        raise InputError(f"{path}: not an autoencoder of runs of format {FORMAT}")
    if about.get("phase") not in PHASES:
        raise InputError(f"{path}: phase {about.get('phase')!r} is not one of {', '.join(PHASES)}")
    try:
        result = PhaseResult(
            folder=Path(folder), phase=cast(Phase, about["phase"]),
            network=from_plain(RunAutoencoder.Config, about["config"], f"{path}: config"),
            shape=from_plain(tuple[int, ...], about["shape"], f"{path}: shape"), sha256=str(about["sha256"]),
            untrained=from_plain(tuple[str, ...], about["untrained"], f"{path}: untrained"),
            started_from=dict(about["started_from"]), history=list(about["history"]), training=dict(about["training"]),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: damaged ({error})") from None
    if read_weights(Path(folder) / WEIGHTS)[1] != result.sha256:
        raise InputError(f"{Path(folder) / WEIGHTS}: not the weights that {ABOUT} was written for; copy both again")
    return result
