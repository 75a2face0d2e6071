"""The one setting of how a network is trained on several ranks."""

from dataclasses import dataclass
from typing import Literal

from features.encoders.item_encoder import check_counts
from meshgnn.config import Config as BaseConfig
from meshgnn.errors import SettingError

Mode = Literal["one", "data", "model", "pipeline", "sharded", "data_model"]
OF_BATCHES = ("data", "sharded")  # modes in which every rank has the whole network and a part of the batch


@dataclass(frozen=True, kw_only=True)
class Parallel(BaseConfig):
    """What is shared out among the ranks that torchrun or srun started.

    Every mode gives the loss and the gradient of one process (batch norms in eval mode or frozen, no dropout): the
    batch of all ranks is drawn from (seed, step), and a target that some subjects lack is averaged over those of the
    whole batch who have it. Dropout is drawn anew on every rank.

    - one: nothing; a single process.
    - data: subjects, by torch's DistributedDataParallel. Rank r takes places r, r + W, ... of the batch.
    - model: the stages of the network, one after another; one rank computes at a time.
    - pipeline: the stages, with several micro-batches under way (GPipe, Huang et al. 2019; 1F1B, Narayanan et al.
      2019), by torch.distributed.pipelining.
    - sharded: subjects, with weights, gradients and optimiser state cut over the ranks by FSDP2 (`fully_shard`).
    - data_model: a grid; subjects over its rows, stages with micro-batches over its columns.

    All of them run on CPUs (gloo) and on GPUs (NCCL).

    Args:
        mode: see above.
        pieces: of the network in data_model: the number of ranks is a multiple of it. Other modes take all ranks.
        cut: where the stages are cut: so that the largest piece has the fewest parameters, or takes the least time; or
            as the ABCD study cut ResNet-50 over four devices (stem, pooling and stage 1, stages 2 to 4, the rest).
        cuts: numbers of the stages that the second and later pieces begin with, instead of `cut`; the last stage is
            fusion and head.
        micro_batches: of pipeline and data_model.
        schedule: of pipeline and data_model; 1f1b keeps fewer activations and needs as many micro-batches as pieces.
        batch_norm: own: statistics of the subjects of a rank, or of a micro-batch, and the first rank's running
            statistics are kept; joint: of the subjects of all ranks (data, sharded); frozen: running statistics.
    """

    mode: Mode = "one"
    pieces: int = 2
    cut: Literal["parameters", "time", "published"] = "parameters"
    cuts: tuple[int, ...] = ()
    micro_batches: int = 4
    schedule: Literal["gpipe", "1f1b"] = "gpipe"
    batch_norm: Literal["own", "joint", "frozen"] = "own"

    def __post_init__(self) -> None:
        check_counts(pieces=self.pieces, micro_batches=self.micro_batches)
        if any(before >= after for before, after in zip((0, *self.cuts), self.cuts)):
            raise SettingError(f"<cuts> must be above 0 and rise, got {', '.join(map(str, self.cuts))}")
        if self.batch_norm == "joint" and self.mode not in OF_BATCHES:
            raise SettingError(
                f"<batch_norm>=joint is for <mode>={' or '.join(OF_BATCHES)}; micro-batches are normalised one by one: "
                "use own or frozen"
            )

    def micro(self) -> int:
        """Micro-batches of a step."""
        return 1 if self.mode == "model" else self.micro_batches

    def pieces_of(self, world: int) -> int:
        """Into how many pieces the network is cut on so many ranks.

        Raises:
            SettingError: the ranks do not fit the setting.
        """
        if self.mode == "one" and world > 1:
            raise SettingError(f"<mode>=one, but {world} ranks were started; choose another mode, or start one process")
        if self.mode in ("one", *OF_BATCHES):
            return 1
        pieces = self.pieces if self.mode == "data_model" else world
        if world % pieces:
            raise SettingError(f"{world} ranks are not a multiple of <pieces>={pieces}")
        if self.cuts and len(self.cuts) != pieces - 1:
            raise SettingError(f"<cuts> names {len(self.cuts) + 1} pieces, and there are {pieces}")
        if self.cut == "published" and pieces != 4 and not self.cuts:
            raise SettingError(f"<cut>=published is a cut into 4 pieces, and there are {pieces}")
        if self.schedule == "1f1b" and self.micro() < pieces and self.mode != "model":
            raise SettingError(f"<schedule>=1f1b needs <micro_batches> of at least {pieces}, got {self.micro()}")
        return pieces
