"""Networks for patches of sections: sizes, laws, weights from files, what they refuse."""

import hashlib
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from features import pretrain as pretraining
from features.encoders.narrow_resnet import NarrowResNet
from features.encoders.section_cnn import SectionCNN
from features.encoders.timm_backbone import TimmBackbone
from features.encoders.valid_cnn import ValidCNN
from features.model_files import load_encoder, new_encoder, save_encoder
from features.node_data.section_patches import SectionPatches
from features.objectives.nt_xent import NTXent
from features.transfer.pretrained import Pretrained
from features.weight_files import write_weights
from meshgnn.errors import InputError
from meshgnn.testing import assert_encoder


def count(*modules: nn.Module) -> int:
    return sum(weight.numel() for module in modules for weight in module.parameters())


def test_the_narrow_resnet_has_as_many_parameters_as_published():
    colour = NarrowResNet.Config().build((3, 128, 128))
    projection = NTXent.Config(temperature=0.5, hidden=90, projection=32).build(colour.out_channels, 0)
    assert colour.out_channels == 256
    assert count(colour) == 373_576
    assert count(colour, projection) == 399_496
    assert count(NarrowResNet.Config().build((128, 128)), projection) == 399_096


ENCODERS = {
    "valid": (ValidCNN.Config(), (48, 48)),
    "pooled": (
        ValidCNN.Config(widths=(8, 16), kernels=(5, 3), strides=(2, 1), pooled=(0,), out_channels=4),
        (3, 20, 20),
    ),
    "narrow": (NarrowResNet.Config(), (32, 32)),
    "grouped": (NarrowResNet.Config(norm="group"), (2, 32, 32)),
}


@pytest.mark.parametrize("name", ENCODERS)
def test_encoders_of_patches_keep_the_laws(name: str, tmp_path):
    config, shape = ENCODERS[name]
    torch.manual_seed(0)
    data = SectionPatches.Config()
    encoder = new_encoder(config, data, shape)
    patches = torch.rand(5, *shape)
    assert_encoder(encoder, patches)
    with pytest.raises(InputError):
        encoder(patches[..., :-1])
    with pytest.raises(InputError, match="square patches"):
        config.build((4, 16, 8, 8))
    save_encoder(tmp_path, encoder, {})
    assert load_encoder(tmp_path).identity() == encoder.identity()
    # Activations that are computed again change neither features nor gradients.
    encoder.train()
    found = []
    for again in (False, True):
        encoder.network.recompute = again
        encoder.zero_grad()
        features = encoder(patches)
        features.square().sum().backward()
        found.append([features.detach(), *(weight.grad for weight in encoder.parameters())])
    torch.testing.assert_close(found[0], found[1])


def test_a_valid_network_sees_no_further_than_its_rows_reach():
    network = ValidCNN.Config().build((48, 48))
    assert network.receptive_px() == 45
    with pytest.raises(InputError, match="shrink to nothing in row 5"):
        ValidCNN.Config().build((40, 40))
    with pytest.raises(InputError, match="one number per row"):
        ValidCNN.Config(widths=(8, 8))


def fake_timm(name: str, *, in_chans: int, num_classes: int, pretrained: bool, **more) -> nn.Module:
    if "img_size" in more:
        raise TypeError("img_size")
    assert (num_classes, pretrained) == (0, False)
    network = nn.Sequential(nn.Conv2d(in_chans, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    network.num_features = 4
    return network


def test_a_backbone_of_timm_takes_weights_of_three_channels_for_grey_patches(tmp_path, monkeypatch):
    made = SimpleNamespace(create_model=fake_timm, is_model=lambda name: name == "small", __version__="1")
    monkeypatch.setitem(sys.modules, "timm", made)
    torch.manual_seed(1)
    colour = TimmBackbone.Config(name="small").build((3, 12, 12)).eval()
    write_weights(tmp_path / "w.safetensors", colour.backbone)
    digest = hashlib.sha256((tmp_path / "w.safetensors").read_bytes()).hexdigest()
    grey = TimmBackbone.Config(name="small").build((12, 12)).eval()
    Pretrained.Config(file=tmp_path / "w.safetensors", sha256=digest).build().into(grey)
    patches = torch.rand(4, 12, 12)
    torch.testing.assert_close(grey(patches), colour(patches[:, None].expand(-1, 3, -1, -1)))
    with pytest.raises(InputError, match="another file, or a changed one"):
        Pretrained.Config(file=tmp_path / "w.safetensors", sha256="0" * 64).build()
    torch.save(colour.state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(InputError, match="pickle"):
        Pretrained.Config(file=tmp_path / "w.safetensors", sha256=digest).build()
    with pytest.raises(InputError, match="no network 'tiny'"):
        TimmBackbone.Config(name="tiny").build((12, 12))


def test_timm_that_is_not_there_or_lacks_torchvision_is_told_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(InputError, match="needs timm, and it is not installed"):
        TimmBackbone.Config().build((32, 32))
    monkeypatch.delitem(sys.modules, "timm")
    (tmp_path / "timm.py").write_text("import torchvision")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(InputError, match="needs torchvision, which timm imports"):
        TimmBackbone.Config().build((32, 32))


def test_what_an_encoder_cannot_do_is_refused(tmp_path):
    from features.pretraining.prepare import prepare

    def told(match, config, encoder=None, start=None):
        encoder = encoder or new_encoder(config.encoder, config.data, (32, 32))
        with pytest.raises(InputError, match=match):
            prepare(config, encoder, start)

    recipe = pretraining.PretrainConfig(encoder=NarrowResNet.Config())
    told("choose an encoder with group norms", replace(recipe, micro=8))
    small = replace(recipe, encoder=SectionCNN.Config(widths=(8, 16)))
    other = new_encoder(SectionCNN.Config(widths=(8, 24)), small.data, (32, 32))
    told("is another encoder", replace(small, start=tmp_path), start=other)
    sharp = new_encoder(small.encoder, SectionPatches.Config(pixel_um=20.0), (32, 32))
    told("trained on items with pixel_um", replace(small, start=tmp_path), start=sharp)
    (tmp_path / "w.safetensors").write_bytes(b"\x80\x04K\x01.")
    weights = Pretrained.Config(file=tmp_path / "w.safetensors", sha256="0" * 64)
    told("pickle", replace(small, weights=weights))


def test_eight_channels_learn_from_large_patches():
    """A strided 1x1 convolution of 8 channels ended the process in its backward pass."""
    encoder = SectionCNN.Config(widths=(8, 16), stem_stride=(4, 4)).build((1280, 128))
    for _ in range(2):
        encoder(torch.rand(32, 1280, 128)).square().mean().backward()
    assert all(torch.isfinite(weight.grad).all() for weight in encoder.parameters())
