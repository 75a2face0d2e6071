"""Any network of timm, if it is installed, without its last layer; nothing is ever fetched."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from features.encoders.batch_norm import with_own_batch_norm
from features.encoders.item_encoder import ItemConfig, ItemEncoder, Level
from features.encoders.section_items import as_images, check_patches, side_by_side
from meshgnn.errors import InputError, SettingError


class TimmBackbone(ItemEncoder):
    """A network of timm by its name, on patches with as many channels as they have.

    Weights are drawn at random; a local safetensors file with a known hash is read by `weights` of the pretraining, and
    its first kernel is summed over its channels for grey patches. Inputs [B, S, S] or [B, C, S, S].
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(ItemConfig):
        """
        Args:
            level: whether a patch belongs to a node or to a whole brain.
            name: of the network in timm.
            centre, spread: subtracted from patches, and divided by, before the network sees them.
        """

        level: Level = "node"
        name: str = "resnet18"
        centre: float = 0.0
        spread: float = 1.0

        def __post_init__(self) -> None:
            if not self.name or not self.spread > 0:
                raise SettingError("<name> must not be empty, <spread> above 0")

        def build(self, shape: tuple[int, ...]) -> "TimmBackbone":
            """An encoder of patches (S, S) or (C, S, S); weights from torch's random state.

            Raises:
                InputError: not square patches, no timm, or one without torchvision; a network that cannot be made.
            """
            check_patches("TimmBackbone", shape)
            return TimmBackbone(self, shape)

    def __init__(self, config: Config, shape: tuple[int, ...]) -> None:
        backbone = _made(config.name, 1 if len(shape) == 2 else shape[0], shape[-1])
        super().__init__(config, shape, int(backbone.num_features))
        self.backbone = with_own_batch_norm(backbone)
        side_by_side(self)

    def stages(self) -> tuple[nn.Module, ...]:
        return (self.backbone,)

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, S, S] or [B, C, S, S] -> [B, out_channels]. Raises InputError for patches of another size."""
        self.check(inputs)
        config = self.config
        assert isinstance(config, TimmBackbone.Config)
        return self.chain((as_images(inputs) - config.centre) / config.spread)


def _made(name: str, channels: int, side: int) -> Any:
    try:
        import timm
    except ImportError as error:
        lacks = "torchvision, which timm imports" if "torchvision" in str(error) else "timm"
        raise InputError(
            f"encoder TimmBackbone needs {lacks}, and it is not installed; choose another encoder"
        ) from None
    settings: dict[str, Any] = {"pretrained": False, "in_chans": channels, "num_classes": 0}
    try:
        if not timm.is_model(name):
            raise InputError(f"timm {timm.__version__} has no network {name!r}; timm.list_models() names them")
        try:
            return timm.create_model(name, img_size=side, **settings)  # transformers need to know it
        except TypeError:
            return timm.create_model(name, **settings)
    except (RuntimeError, ValueError, AssertionError) as error:
        raise InputError(f"timm cannot make {name!r} for patches of {side} px: {error}") from None
