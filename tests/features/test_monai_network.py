"""Networks of MONAI by name: whatever they give becomes features, and nothing is fetched."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from features.encoders.batch_norm import BatchNorm
from features.encoders.monai_network import MONAINetwork
from features.model_files import load_encoder, new_encoder, save_encoder
from features.node_data.volume_patches import VolumePatches
from meshgnn.config import from_plain, to_plain
from meshgnn.errors import InputError
from meshgnn.testing import assert_encoder

VIT = '{"patch_size": 8, "hidden_size": 12, "mlp_dim": 16, "num_heads": 2, "num_layers": 1}'
TINY = {
    "DenseNet": '{"init_features": 4, "growth_rate": 2, "block_config": [1, 1]}',  # [B, C]
    "UNet": '{"channels": [2, 4], "strides": [2]}',  # maps
    "SegResNetVAE": '{"init_filters": 8, "blocks_down": [1, 1], "blocks_up": [1]}',  # maps and a loss
    "ViT": VIT,  # tokens and hidden states
    "Classifier": '{"channels": [2, 4], "strides": [2, 2]}',  # takes the whole shape
}


@pytest.mark.parametrize("name", TINY)
def test_outputs_of_any_kind_become_features(name):
    torch.manual_seed(0)
    shape = (1, 16, 16, 16)
    encoder = MONAINetwork.Config(network=name, arguments=TINY[name], out_channels=3).build(shape)
    assert_encoder(encoder, torch.randn(2, *shape))
    assert encoder.level == "graph"
    assert not any(type(part) is nn.BatchNorm3d for part in encoder.modules())
    assert from_plain(MONAINetwork.Config, to_plain(encoder.config)) == encoder.config


def test_channels_and_dimensions_follow_from_the_volume():
    encoder = MONAINetwork.Config(network="DenseNet", arguments=TINY["DenseNet"]).build((3, 16, 12, 8))
    assert encoder(torch.randn(2, 3, 16, 12, 8)).shape == (2, 64)
    assert isinstance(encoder.features, nn.Identity)
    assert any(isinstance(part, BatchNorm) for part in encoder.modules())


def test_building_draws_no_randomness_but_for_weights():
    def weights(drawn):
        torch.manual_seed(drawn)
        return MONAINetwork.Config(network="UNet", arguments=TINY["UNet"]).build((1, 8, 8, 8)).identity()["weights"]

    assert weights(0) == weights(0) != weights(1)


def test_one_is_kept_and_read_back(tmp_path):
    config = MONAINetwork.Config(network="UNet", arguments=TINY["UNet"], out_channels=3)
    made = new_encoder(config, VolumePatches.Config(), (1, 8, 8, 8))
    save_encoder(tmp_path, made, {})
    assert load_encoder(tmp_path).identity() == made.identity()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"arguments": '{"pretrained": true}'}, "pretrained"),
        ({"network": "HoVerNet", "arguments": '{"pretrained_url": "x"}'}, "pretrained_url"),
        ({"arguments": '{"act": "/etc/passwd"}'}, "no paths"),
        ({"arguments": '{"growth_rate": 1e300}'}, "numbers up to"),
        ({"arguments": "[1]"}, "JSON object"),
        ({"arguments": "{" * 3000}, "JSON object"),
        ({"network": "Path"}, "is not a network of monai"),
        ({"network": "resnet18"}, "is not a network of monai"),
        ({"network": "UNet"}, "missing 2 required"),
        ({"arguments": '{"in_channels": 2}'}, "follows from the volumes"),
        ({"arguments": '{"init_features": 16000, "growth_rate": 16000}'}, "too large"),
        ({"network": "AutoEncoder", "arguments": '{"channels": [2], "strides": [64]}'}, "does not work"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(settings, message):
    with pytest.raises(InputError, match=message) as told:
        MONAINetwork.Config(**settings).build((1, 16, 16, 16))
    assert "\n" not in str(told.value)


def test_nothing_is_imported_before_it_is_built():
    code = "import sys, features.model_files, features.fusion.multi_input_net; print('monai' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
