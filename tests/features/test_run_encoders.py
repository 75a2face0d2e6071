"""Encoders of runs: published sizes, the laws of encoders, and attention against what it is defined as."""

from dataclasses import replace
from itertools import combinations, product

import numpy as np
import pytest
import torch
from torch import nn

from features.encoders.attention_layers import AttentionLayers
from features.encoders.correlation_pool import CorrelationPool
from features.encoders.frame_decoder import FrameDecoder
from features.encoders.frame_encoder import FrameEncoder
from features.encoders.item_encoder import ItemEncoder
from features.encoders.mesh_transformer import MeshTransformer, neighbours
from features.encoders.run_transformer import RunTransformer
from features.encoders.series_lstm import SeriesLSTM
from features.encoders.series_transformer import SeriesTransformer
from features.encoders.swin4d import Swin4D
from features.encoders.token_sequence import TokenSequence
from features.encoders.vertex_transformer import VertexTransformer
from features.encoders.window_attention import WindowAttention
from features.fusion.model_files import load_network, save_network
from features.fusion.multi_input_net import InputBlock, MultiInputNet
from features.fusion.trait_head import TraitHead
from features.model_files import load_encoder, new_encoder, save_encoder
from features.node_data.vertex_series import VertexSeries
from features.standard_mesh import standard_mesh
from meshgnn.config import from_plain, to_plain
from meshgnn.errors import InputError, SettingError
from meshgnn.sockets import Encoder
from meshgnn.testing import assert_encoder

SEQUENCE = TokenSequence.Config(layers=AttentionLayers.Config(depth=1, heads=2, dropout=0.0))
FRAMES = FrameEncoder.Config(channels=(4, 8), blocks=(1, 1), features=8)
SMALL = {
    "frames": (FRAMES, (2, 5, 6, 7)),
    "correlated": (
        RunTransformer.Config(frames=FRAMES, sequence=replace(SEQUENCE, pool="correlation", combined=5)),
        (2, 5, 6, 7, 4),
    ),
    "standardised": (
        RunTransformer.Config(
            frames=FRAMES, sequence=replace(SEQUENCE, pool="correlation", combined=5, standardised=True)
        ),
        (2, 5, 6, 7, 4),
    ),
    "run": (RunTransformer.Config(frames=FRAMES, sequence=SEQUENCE), (2, 5, 6, 7, 4)),
    "swin": (
        Swin4D.Config(width=8, heads=(2, 4), patch=(2, 2, 2), window=(2, 2, 2, 2), final_norm=True),
        (2, 7, 6, 9, 5),
    ),
    "swin_correlated": (
        Swin4D.Config(
            width=8,
            heads=(2, 4),
            patch=(2, 2, 2),
            window=(2, 2, 2, 2),
            pool="correlation",
            combined=5,
            standardised=True,
        ),
        (2, 7, 6, 9, 5),
    ),
    "series": (SeriesTransformer.Config(width=8, sequence=SEQUENCE), (4, 9)),
    "lstm": (SeriesLSTM.Config(width=8, depth=2), (4, 9)),
    "vertex": (VertexTransformer.Config(width=8, patch=4, sequence=SEQUENCE), (10,)),
    "mesh": (MeshTransformer.Config(width=8, parcels=12, heads=2, sequence=SEQUENCE), (84, 4)),
}


def size_of(module: nn.Module) -> int:
    return sum(one.numel() for one in module.parameters())


def batch_of(name: str, count: int = 3, seed: int = 0) -> torch.Tensor:
    drawn = torch.Generator().manual_seed(seed)
    items = torch.randn(count, *SMALL[name][1], generator=drawn)
    if name in ("series", "lstm"):
        items[:, -1] = 1
        items[0, :, 6:] = 0
    if name == "mesh":
        items[..., -1] = (torch.rand(count, 84, generator=drawn) > 0.2).float()
    return items


def built(name: str) -> ItemEncoder:
    torch.manual_seed(0)
    config, shape = SMALL[name]
    return config.build(shape)


@pytest.mark.parametrize("name", SMALL)
def test_encoders_keep_the_laws_and_their_stages_are_the_forward_pass(name):
    encoder, items = built(name), batch_of(name)
    assert isinstance(encoder, Encoder)
    assert_encoder(encoder, items)
    config = SMALL[name][0]
    assert from_plain(type(config), to_plain(config), "c") == config
    chained = items
    for stage in encoder.stages():
        chained = stage(chained)
    torch.testing.assert_close(chained, encoder(items))
    inside = {id(one) for stage in encoder.stages() for one in stage.parameters()}
    assert inside == {id(one) for one in encoder.parameters()}
    with pytest.raises(InputError, match="takes items"):
        encoder(items[:, :-1])
    with pytest.raises(InputError, match="choose another encoder"):
        config.build((3, 4, 5, 6, 7, 8))


@pytest.mark.parametrize("name", SMALL)
def test_no_parameter_is_without_a_gradient_and_recomputing_changes_none(name):
    encoder, items = built(name).train(), batch_of(name)
    weight = torch.randn(3, encoder.out_channels, generator=torch.Generator().manual_seed(1))
    told = []
    for encoder.recompute in (False, True):
        encoder.zero_grad()
        torch.manual_seed(3)
        (encoder(items) * weight).sum().backward()
        told.append({key: one.grad.clone() for key, one in encoder.named_parameters() if one.grad is not None})
    assert set(told[0]) == {key for key, _ in encoder.named_parameters()}
    assert all(float(one.abs().max()) > 0 for one in told[0].values())
    for key, one in told[1].items():
        torch.testing.assert_close(one, told[0][key], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", SMALL)
def test_a_rank_without_an_item_gives_gradients_of_zero(name):
    encoder = built(name)
    assert encoder(batch_of(name)[:0]).shape == (0, encoder.out_channels)
    encoder(batch_of(name)[:0]).sum().backward()
    assert all(one.grad is not None and float(one.grad.abs().max()) == 0 for one in encoder.parameters())


@pytest.mark.parametrize(("channels", "size"), [(2, 276_108), (1, 276_000)])
def test_the_encoder_of_frames_has_the_published_size_and_sides(channels, size):
    with torch.device("meta"):
        encoder = RunTransformer.Config.published().frames.build((channels, 75, 93, 81))
        maps, sides = torch.zeros(1, channels, 75, 93, 81), []
        for stage in encoder.down:
            maps = stage(maps)
            sides.append(tuple(maps.shape[1:]))
        assert encoder(torch.zeros(2, channels, 75, 93, 81)).shape == (2, 2640)
        decoder = FrameDecoder.Config().build(encoder)
        assert decoder(torch.zeros(2, 2640)).shape == (2, 1, 75, 93, 81)
    assert sides == [(8, 38, 47, 41), (16, 19, 24, 21), (32, 10, 12, 11)]
    assert (encoder.flat, encoder.out_channels) == (2640, 2640)
    assert size_of(encoder.down) + size_of(encoder.last) == size
    assert size_of(encoder.squeeze) == 1794
    assert [size_of(part) for part in (decoder.widen, decoder.up, decoder.last)] == [6_974_004, 19_012, 441]


@pytest.mark.parametrize(
    ("channels", "sides", "depth", "positions", "size"),
    [
        (2, (75, 93, 81), 2, 30, 102_568_207),
        (1, (75, 93, 81), 16, 21, 720_299_827),
        (1, (96, 96, 96), 16, 21, 729_426_307),
    ],
)
def test_the_transformer_of_runs_has_the_published_sizes(channels, sides, depth, positions, size):
    published = RunTransformer.Config.published(depth=depth, positions=positions)
    with torch.device("meta"):
        encoder = published.build((channels, *sides, 20))
        head = nn.Linear(encoder.out_channels, 1)
        assert encoder(torch.zeros(2, channels, *sides, 20)).shape == (2, 2640)
    assert size_of(encoder) + size_of(head) == size
    assert size_of(encoder.sequence.layers.layers[0]) == 44_125_392
    assert size_of(encoder.sequence.embed) == 13_200 + 2640 * positions + 6_972_240
    assert size_of(encoder.sequence.pool) == 6_972_240


@pytest.mark.parametrize(
    ("width", "norm", "size"),
    [(36, True, 4_315_212), (36, False, 4_314_636), (24, True, 1_971_336), (48, True, 7_564_560)],
)
def test_swift_has_the_published_size(width, norm, size):
    with torch.device("meta"):
        encoder = Swin4D.Config.published(width=width, final_norm=norm).build((1, 96, 96, 96, 20))
        assert size_of(encoder) == size
        if width == 36:
            assert encoder.to("meta").maps(torch.zeros(1, 1, 96, 96, 96, 20)).shape == (1, 288, 2, 2, 2, 20)
    if width == 36:
        positions = [one.space.numel() + one.time.numel() for one in encoder.levels]
        assert positions == [148_176, 38_304, 12_096, 8_064]
        assert [size_of(one.blocks) for one in encoder.levels] == [32_040, 126_288, 1_504_224, 1_998_144]
        assert [size_of(one.merge) for one in encoder.levels[:-1]] == [21_312, 84_096, 334_080]
        assert size_of(encoder.embed) == 7_812


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_a_layer_is_that_of_torch(norm):
    torch.manual_seed(0)
    config = AttentionLayers.Config(depth=1, heads=3, feed_forward=10, norm=norm, dropout=0.0)
    ours = config.build(12)
    theirs = nn.TransformerEncoderLayer(12, 3, 10, 0.0, "gelu", batch_first=True, norm_first=norm == "pre")
    layer = ours.layers[0]
    for mine, other in [
        (layer.qkv.weight, theirs.self_attn.in_proj_weight), (layer.qkv.bias, theirs.self_attn.in_proj_bias),
        *zip(layer.out.parameters(), theirs.self_attn.out_proj.parameters()),
        *zip(layer.wide.parameters(), theirs.linear1.parameters()),
        *zip(layer.narrow.parameters(), theirs.linear2.parameters()),
    ]:  # fmt: skip
        other.data.copy_(mine.data)
    tokens, measured = torch.randn(2, 7, 12), torch.arange(7) < torch.tensor([[7], [4]])
    wanted = theirs(tokens, src_key_padding_mask=~measured)
    torch.testing.assert_close(layer(tokens, measured), wanted, rtol=1e-4, atol=1e-5)
    assert size_of(config.build(12)) == size_of(theirs) + 24 * (norm == "pre")


@pytest.mark.parametrize(
    ("grid", "window", "shifted"),
    [
        ((4, 4, 4, 4), (2, 2, 2, 2), False),
        ((4, 4, 4, 4), (2, 2, 2, 2), True),
        ((5, 3, 4, 7), (2, 2, 4, 3), True),
        ((3, 2, 6, 5), (4, 2, 4, 4), True),
        ((5, 3, 2, 3), (2, 2, 2, 2), False),
    ],
)
def test_windowed_attention_is_attention_under_a_mask(grid, window, shifted):
    """Against attention among all tokens, allowed where two of them share a window as the docstring defines it."""
    torch.manual_seed(0)
    attention = WindowAttention(6, 2, grid, window, shifted=shifted).double()
    tokens = torch.randn(2, *grid, 6, dtype=torch.float64)
    places = np.array(list(product(*map(range, grid))))
    own = np.minimum(window, grid)
    shift = np.where(shifted & (np.asarray(window) < grid), own // 2, 0)
    home = np.floor_divide(places - shift, own)
    allowed = torch.from_numpy((home[:, None] == home[None]).all(-1))
    assert 0 < float(allowed.double().mean()) < 1
    query, key, value = attention.qkv(tokens.flatten(1, 4)).view(2, -1, 3, 2, 3).permute(2, 0, 3, 1, 4)
    share = (query @ key.transpose(-1, -2) / 3**0.5).masked_fill(~allowed, float("-inf")).softmax(-1)
    wanted = attention.out((share @ value).transpose(1, 2).flatten(2)).view(2, *grid, 6)
    torch.testing.assert_close(attention(tokens), wanted)


def test_positions_are_learnt_for_space_and_time_and_time_is_never_merged():
    encoder = built("swin").eval()
    items = torch.zeros(1, 2, 7, 6, 9, 5)
    with torch.no_grad():
        assert encoder.maps(items).shape == (1, 16, 2, 2, 3, 5)
        maps = encoder.maps(items)
        assert float((maps[..., 0] - maps[..., 1]).abs().max()) > 1e-4
        assert float((maps[:, :, 0] - maps[:, :, 1]).abs().max()) > 1e-4
    with pytest.raises(SettingError, match="single token in stage 2"):
        Swin4D.Config.published().build((1, 12, 12, 12, 4))


def test_the_background_goes_on_where_patches_do_not_divide_a_side():
    torch.manual_seed(0)
    config = Swin4D.Config(width=6, heads=(2, 2), patch=(4, 4, 4), window=(2, 2, 2, 2))
    odd, even = config.build((1, 6, 8, 5, 3)), config.build((1, 8, 8, 8, 3))
    even.load_state_dict(odd.state_dict())
    item = torch.randn(2, 1, 6, 8, 5, 3)
    whole = item[:, :, [0, 1, 2, 3, 4, 5, 5, 5]][..., [0, 1, 2, 3, 4, 4, 4, 4], :]
    torch.testing.assert_close(odd(item), even(whole))


@pytest.mark.parametrize("pool", ["mean", "cls", "pooler", "correlation", "lstm"])
def test_padding_changes_nothing(pool):
    torch.manual_seed(0)
    config = SMALL["lstm"][0]
    if pool != "lstm":
        sequence = TokenSequence.Config(layers=SEQUENCE.layers, positions=30, pool=pool, combined=5)
        config = SeriesTransformer.Config(width=8, sequence=sequence)
    short, long = config.build((4, 6)).eval(), config.build((4, 20)).eval()
    long.load_state_dict(short.state_dict())
    items = torch.randn(2, 4, 6)
    items[:, -1] = 1
    padded = torch.cat([items, torch.zeros(2, 4, 14)], 2)
    with torch.no_grad():
        torch.testing.assert_close(long(padded), short(items))
        padded[:, :-1, 6:] = 100.0  # whatever stands there
        torch.testing.assert_close(long(padded), short(items))
        other = padded.clone()
        other[:, 0, 5] += 1
        assert not torch.allclose(long(other), long(padded), atol=1e-4)


def test_correlation_pool_is_a_map_of_fishers_z_of_every_pair_beside_the_mean():
    torch.manual_seed(0)
    pool, tokens = CorrelationPool(6, 4), torch.randn(3, 9, 6)
    tokens[2] = tokens[2, :1]  # does not change: correlated with nothing
    measured = torch.ones(3, 9, dtype=torch.bool)
    measured[1, [2, 5, 8]] = False
    found = pool(tokens, measured).detach().numpy()
    weights = {name: value.detach().numpy().astype(float) for name, value in pool.named_parameters()}
    for item in range(3):
        own = tokens[item][measured[item]].numpy().astype(float)
        z = []
        for a, b in combinations(range(4), 2):
            one, two = own @ weights["combine.weight"][a], own @ weights["combine.weight"][b]
            z.append(0.0 if item == 2 else np.arctanh(np.corrcoef(one, two)[0, 1]))
        wanted = own.mean(0) + weights["map.weight"] @ np.array(z) + weights["map.bias"]
        np.testing.assert_allclose(found[item], wanted, atol=2e-5)


def test_correlation_pool_sees_coupling_where_means_do_not_and_has_finite_gradients():
    torch.manual_seed(0)
    pool, course = CorrelationPool(2, 2), torch.randn(50)
    course -= course.mean()
    together, against = torch.stack([course, course], 1), torch.stack([course, -course], 1)
    with torch.no_grad():
        pool.combine.weight.copy_(torch.eye(2))
        same, other = pool(torch.stack([together, against]))
    assert not torch.allclose(same, other, atol=1e-2)
    tokens = torch.stack([together, against, torch.zeros(50, 2)]).requires_grad_()
    pool(tokens).sum().backward()
    assert all(bool(torch.isfinite(one.grad).all()) for one in (tokens, *pool.parameters()))
    with torch.autocast("cpu", torch.bfloat16):
        mixed = pool.correlations(tokens.detach(), torch.ones(3, 50))
    torch.testing.assert_close(mixed, pool.correlations(tokens.detach(), torch.ones(3, 50)))


def test_a_standardised_correlation_pool_maps_what_tells_subjects_apart():
    torch.manual_seed(0)
    pool = CorrelationPool(6, 4, standardised=True, out=3)
    tokens = torch.randn(40, 30, 6) + 2 * torch.randn(40, 30, 1)  # all have a large common coupling
    z = pool.correlations(tokens, torch.ones(40, 30)).detach()
    wanted = torch.nn.functional.linear(
        (z - z.mean(0)) / (z.var(0, correction=0) + 1e-5).sqrt(), *pool.map.parameters()
    )
    torch.testing.assert_close(pool.mapped(tokens), wanted, atol=1e-4, rtol=1e-4)
    for _ in range(200):  # running moments come to those of the items
        pool.mapped(tokens)
    torch.testing.assert_close(pool.eval().mapped(tokens), wanted, atol=0.05, rtol=0.05)
    with torch.no_grad():
        alone = torch.cat([pool.mapped(tokens[k : k + 1]) for k in range(3)])
    torch.testing.assert_close(alone, pool.mapped(tokens)[:3].detach())


def test_swift_sees_coupling_of_places_by_correlations_and_not_by_means():
    config = Swin4D.Config(
        width=8, depths=(1, 1), heads=(2, 2), patch=(2, 2, 2), window=(2, 2, 2, 2), pool="correlation", combined=4
    )
    torch.manual_seed(0)
    swin, plain = config.build((1, 4, 4, 4, 6)), replace(config, pool="mean").build((1, 4, 4, 4, 6))
    assert set(swin.state_dict()) - set(plain.state_dict()) == {
        "pool.moments.combine.weight", "pool.moments.map.weight", "pool.moments.map.bias"
    }  # fmt: skip
    plain.load_state_dict({name: one for name, one in swin.state_dict().items() if "moments" not in name})
    item = torch.randn(2, 1, 4, 4, 4, 6)
    maps = swin.maps(item)
    places = maps.permute(0, 5, 2, 3, 4, 1).flatten(2)  # [B, T, x * y * z * C]
    torch.testing.assert_close(swin(item), plain(item) + swin.pool.moments.mapped(places))


def test_frames_that_were_not_measured_in_between_are_read_over_by_the_lstm():
    lstm = built("lstm").eval()
    items = torch.randn(1, 4, 9)
    items[:, -1] = torch.tensor([1, 1, 0, 1, 0, 1, 1, 0, 0])
    kept = torch.zeros(1, 4, 9)
    kept[..., :5] = items[..., [0, 1, 3, 5, 6]]
    with torch.no_grad():
        torch.testing.assert_close(lstm(items), lstm(kept))


def test_the_order_of_frames_matters_to_all_encoders_of_time():
    for name in ("run", "swin", "swin_correlated", "series", "lstm", "vertex"):
        encoder, items = built(name).eval(), batch_of(name)[1:]
        with torch.no_grad():
            assert not torch.allclose(encoder(items.flip(-1)), encoder(items), atol=1e-4), name


def test_mesh_neighbours_are_those_of_the_edges():
    mesh = standard_mesh(84)
    found = neighbours(mesh.edges, 84)
    assert found.shape == (84, 7)
    for node in range(84):
        wanted = sorted(mesh.edges[1, mesh.edges[0] == node].tolist())
        assert found[node, 0] == node
        assert [one for one in found[node, 1:].tolist() if one != node] == wanted


def test_a_node_sees_as_far_as_there_are_layers_and_nothing_outside_the_mask():
    torch.manual_seed(0)
    encoder, items = built("mesh").eval(), batch_of("mesh")
    edges, layer = standard_mesh(84).edges, encoder.nodes.layers[0]
    hidden, around = torch.randn(1, 84, 8), encoder.nodes.around
    allowed = torch.ones(1, 84, 7, dtype=torch.bool)
    other = hidden.clone()
    other[0, 5, 0] += 1
    moved = (layer(other, around, allowed) - layer(hidden, around, allowed)).abs().amax(2)[0] > 1e-6
    assert set(moved.nonzero().ravel().tolist()) == {5, *edges[1, edges[0] == 5].tolist()}
    outside = items[..., -1] == 0
    changed = items.clone()
    changed[..., :-1][outside] = 50.0
    with torch.no_grad():
        assert torch.equal(encoder(changed), encoder(items))


def test_in_networks_of_subjects_they_are_kept_on_disk(tmp_path):
    torch.manual_seed(0)
    names = [name for name in SMALL if name != "frames"]
    blocks = tuple(InputBlock(name=name, encoder=SMALL[name][0]) for name in names)
    network = MultiInputNet.Config(blocks=blocks, head=TraitHead.Config(widths=())).build(
        {name: SMALL[name][1] for name in names}, (2,)
    )
    items = {name: batch_of(name, 2) for name in names}
    present = torch.ones(2, len(names), dtype=torch.bool)
    save_network(tmp_path, network.eval(), {})
    assert torch.equal(load_network(tmp_path)(items, present), network(items, present))


def test_a_transformer_of_nodes_is_kept_on_disk(tmp_path):
    encoder = new_encoder(SMALL["vertex"][0], VertexSeries.Config(), (10,)).eval()
    assert encoder.level == encoder.network.level == "node"
    save_encoder(tmp_path, encoder, {})
    assert torch.equal(load_encoder(tmp_path)(batch_of("vertex")), encoder(batch_of("vertex")))


@pytest.mark.parametrize(
    ("config", "shape", "words"),
    [
        (lambda: RunTransformer.Config(sequence=TokenSequence.Config(positions=4)), (1, 8, 8, 8, 4), "too few for 4"),
        (lambda: FrameEncoder.Config(channels=(6, 8)), None, "multiples of 4"),
        (lambda: FrameEncoder.Config(blocks=(1,)), None, "blocks needs one number"),
        (lambda: Swin4D.Config(heads=(5, 6)), None, "do not divide the 24"),
        (lambda: Swin4D.Config(heads=(3,)), None, "heads needs one number per stage"),
        (lambda: SeriesTransformer.Config(width=9), (4, 9), "do not divide 9 channels"),
        (lambda: MeshTransformer.Config(), (85, 3), "85 nodes are no mesh"),
        (lambda: MeshTransformer.Config(parcels=162), (84, 3), "parcels=162 of a hemisphere of 42"),
        (lambda: AttentionLayers.Config(depth=10**9), None, "at most 512"),
        (lambda: TokenSequence.Config(combined=1), None, "between 2 and 512"),
        (lambda: TokenSequence.Config(combined=10**9), None, "between 2 and 512"),
    ],
)
def test_settings_that_cannot_work_are_refused(config, shape, words):
    with pytest.raises(InputError, match=words):
        config().build(shape)
