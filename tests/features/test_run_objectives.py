"""Objectives on windows of runs: each equals a plain loop, and keeps the laws that say what it is for."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from features.encoders.frame_encoder import FrameEncoder
from features.objectives.contrastive import supervised_contrastive
from features.objectives.frame_infonce import FrameInfoNCE, frame_infonce
from features.objectives.intensity import Intensity, intensity_loss, quantile_above_zero
from features.objectives.masked_frames import MaskedFrames, masked_loss, masked_places
from features.objectives.perceptual import EncoderFeatures, Perceptual, RandomFeatures, perceptual_loss
from features.objectives.reconstruction import Reconstruction, reconstruction_loss
from features.objectives.run_objective import RunOutputs
from features.objectives.subject_windows import SubjectWindows
from features.objectives.temporal_contrast import TemporalContrast, published_contrast, temporal_contrast
from meshgnn.errors import SettingError
from tests.features.test_transfer import kept

B, T, D = 3, 7, 5
SINGLE = (
    Reconstruction.Config(), Intensity.Config(), Perceptual.Config(), TemporalContrast.Config(), MaskedFrames.Config(),
    FrameInfoNCE.Config(),
)  # fmt: skip


def states(count=B, seed=0, frames=T):
    return torch.randn(count, frames, D, generator=torch.Generator().manual_seed(seed))


def outputs_of(count=B, seed=0):
    drawn = torch.Generator().manual_seed(seed)
    window, rebuilt = (torch.randn(count, channels, 4, 5, 3, T, generator=drawn) for channels in (2, 1))
    window[:, :, 0] = window[:, :1].min() - 1  # background
    frames = states(count, seed).requires_grad_()
    found = frames * torch.linspace(1, 2, T)[:, None]
    return RunOutputs(
        window=window, rebuilt=rebuilt.requires_grad_(), frames=frames, states=found, embedding=found.mean(1),
        again=lambda given: given + given.mean(1, keepdim=True), subjects=torch.arange(count),
        draws=[(9, 0, k) for k in range(count)],
    )  # fmt: skip


def pick(outputs, rows):
    whole = vars(outputs)
    names = ("window", "rebuilt", "frames", "states", "embedding", "subjects")
    parts = {name: whole[name][rows] for name in names}
    return RunOutputs(again=outputs.again, draws=[outputs.draws[k] for k in rows], **parts)


def normal(values):
    return F.layer_norm(values, values.shape[-1:])


@pytest.mark.parametrize("config", SINGLE, ids=lambda one: type(one).__qualname__)
def test_a_window_counts_by_itself_in_any_batch_and_every_one_gets_a_gradient(config):
    objective, outputs = config.build((2, 4, 5, 3, T), D), outputs_of()
    values = objective(outputs)
    assert values.shape == (B,)
    assert torch.isfinite(values).all()
    order = [2, 0, 1]
    torch.testing.assert_close(objective(pick(outputs, order)), values[order])
    torch.testing.assert_close(torch.cat([objective(pick(outputs, [k])) for k in range(B)]), values)
    values.sum().backward()
    grads = [one.grad for one in (outputs.rebuilt, outputs.frames) if one.grad is not None]
    assert any(bool((one.flatten(1).abs().amax(1) > 0).all()) for one in grads)
    with pytest.raises(SettingError, match="factor must be above 0"):
        replace(config, factor=0.0)


def test_reconstruction_is_the_mean_absolute_error():
    outputs = outputs_of()
    wanted = [float((outputs.rebuilt[b, 0].detach() - outputs.window[b, 0]).abs().mean()) for b in range(B)]
    assert reconstruction_loss(outputs.rebuilt, outputs.window).tolist() == pytest.approx(wanted, rel=1e-6)
    assert reconstruction_loss(outputs.window[:, :1], outputs.window).abs().max() == 0


@pytest.mark.parametrize("quantile", [0.0, 0.35, 0.9])
def test_intensity_is_a_loop_over_frames(quantile):
    outputs = outputs_of()
    wanted = []
    for b in range(B):
        frames = []
        for t in range(T):
            value, score = outputs.window[b, 0, ..., t], outputs.window[b, 1, ..., t].abs()
            score = torch.where(value > value.min(), score, 0)
            chosen = score > torch.quantile(score[score > 0], quantile)
            frames.append(float((outputs.rebuilt[b, 0, ..., t].detach() - value).abs()[chosen].mean()))
        wanted.append(np.mean(frames))
    found = intensity_loss(outputs.rebuilt, outputs.window, quantile)
    assert found.tolist() == pytest.approx(wanted, rel=1e-5)


def test_quantiles_are_of_the_values_above_zero_of_each_row():
    rows = torch.tensor([[0.0, 3, 0, 1, 2], [0, 0, 0, 0, 0], [0, 0, 5, 0, 0]])
    assert quantile_above_zero(rows, 0.75).tolist() == [2.5, float("inf"), 5.0]
    flat = outputs_of()
    flat.window[0] = 0  # nothing stands out
    assert float(intensity_loss(flat.rebuilt.detach(), flat.window, 0.9)[0]) == 0


def test_perceptual_is_a_loop_over_chosen_frames():
    outputs, network = outputs_of(), RandomFeatures.Config(channels=(3, 4)).build((4, 5, 3))
    places = torch.tensor([[0, 3], [6, 2], [1, 5]])
    wanted = []
    for b in range(B):
        errors = []
        for t in places[b].tolist():
            sides = [network(one[b : b + 1, :1, ..., t].detach()) for one in (outputs.rebuilt, outputs.window)]
            errors.append(np.mean([float((a - c).square().mean()) for a, c in zip(*sides)]))
        wanted.append(np.mean(errors))
    found = perceptual_loss(outputs.rebuilt, outputs.window, places, network)
    assert found.tolist() == pytest.approx(wanted, rel=1e-5)
    assert perceptual_loss(outputs.window[:, :1], outputs.window, places, network).abs().max() == 0


def test_the_network_that_looks_is_frozen_and_needs_no_file(tmp_path):
    before = torch.get_rng_state()
    one, other = (Perceptual.Config().build((1, 4, 5, 3, T), D) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert list(one.parameters()) == []
    outputs = outputs_of()
    assert torch.equal(one(outputs), other(outputs))
    frames = FrameEncoder.Config(channels=(4, 8), blocks=(1, 1), features=4, dropout=0.5)
    encoder = frames.build((1, 4, 5, 3))
    named = kept(tmp_path, {f"frames.{name}": value for name, value in encoder.state_dict().items()})
    looks = EncoderFeatures.Config(encoder=frames, weights=named)
    own = Perceptual.Config(network=looks, share=1.0).build((1, 4, 5, 3, T), D).train()
    assert not any(weight.requires_grad for weight in own.parameters())
    assert torch.equal(own(outputs), own(outputs))
    encoder.eval()
    frame = outputs.window[:1, :1, ..., 2]
    torch.testing.assert_close(looks.build((4, 5, 3))(frame)[0], encoder.down[0](frame))


@pytest.mark.parametrize(("near", "margin"), [(1, 1.0), (3, 2.5)])
def test_the_corrected_contrast_is_a_loop_over_pairs(near, margin):
    h = states()
    wanted = []
    for b in range(B):
        pairs = []
        for later in range(T):
            for earlier in range(later):
                d = float((normal(h[b, later]) - normal(h[b, earlier])).square().mean())
                pairs.append(d if later - earlier <= near else max(0.0, margin - d))
        wanted.append(np.mean(pairs))
    assert temporal_contrast(h, near, margin).tolist() == pytest.approx(wanted, abs=1e-5)


def test_gradients_of_the_corrected_contrast_are_those_of_layer_norm():
    h = (states() * 3 + 1).double().requires_grad_()
    gap = torch.arange(T)[:, None] - torch.arange(T)
    d = (normal(h)[:, :, None] - normal(h)[:, None]).square().mean(3)
    plain = torch.where(gap <= 2, d, (1.5 - d).clamp(min=0))[:, gap > 0].mean(1)
    weight = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    found = temporal_contrast(h, 2, 1.5)
    torch.testing.assert_close(found, plain)
    wanted = torch.autograd.grad((plain * weight).sum(), h)[0]
    assert float(wanted.abs().max()) > 1e-3
    torch.testing.assert_close(torch.autograd.grad((found * weight).sum(), h)[0], wanted)


def naive_published(h, near, *, inverted):
    """The published sum; `inverted` exchanges near and distant frames."""
    total = 0.0
    for later in range(h.shape[1]):
        for earlier in range(later):
            d = float((h[:, later] - h[:, earlier]).square().sum())
            close = (later - earlier <= near) != inverted
            total += max(0.0, 60_000 - d) if close else d
    return total / (h.shape[1] * (h.shape[1] - 1) * 1000)


@pytest.mark.parametrize("scale", [1.0, 40.0])
def test_the_published_contrast_is_a_loop_over_pairs_with_near_and_distant_exchanged(scale):
    h = states().double() * scale
    assert float(published_contrast(h, 1)) == pytest.approx(naive_published(h, 1, inverted=False), rel=1e-5)
    assert naive_published(h, 1, inverted=True) != pytest.approx(naive_published(h, 1, inverted=False), rel=0.1)


def test_exchanging_near_and_distant_turns_one_contrast_into_the_other():
    """Of one window whose states are normal already, with the same margin: their sum is that of all pairs both pulled
    and pushed."""
    h = normal(states(1))
    count = T * (T - 1) / 2
    pushed = published_contrast(h, 1) * 1000 * T * (T - 1)
    d = torch.cdist(h.double(), h.double()).square()[0]
    every = sum(float(d[a, b]) + 60_000 - float(d[a, b]) for a in range(T) for b in range(a))
    pulled = temporal_contrast(h, 1, 60_000 / D) * count * D
    assert float(pushed) + float(pulled) == pytest.approx(every, rel=1e-5)


def shares_of_adjacent(objective):
    """Distance of adjacent frames in units of that of distant ones, before and after 50 steps on the states of a run
    that is smooth but for noise."""
    place, gap = torch.linspace(0, 6, 20), (torch.arange(20)[:, None] - torch.arange(20)).abs()
    smooth = torch.stack([torch.sin(place + k) for k in range(8)], 1)[None]
    h = (smooth + torch.randn(smooth.shape, generator=torch.Generator().manual_seed(0))).requires_grad_()
    optimiser, told = torch.optim.Adam([h], 0.02), []
    for _ in range(51):
        d = (h[0, :, None] - h[0, None]).detach().square().mean(2)
        told.append(float(d[gap == 1].mean() / d[gap > 1].mean()))
        optimiser.zero_grad()
        objective(h).sum().backward()
        optimiser.step()
    return told[0], told[-1]


def test_adjacent_frames_end_closer_than_distant_ones_and_with_the_published_labels_farther():
    before, corrected = shares_of_adjacent(lambda h: temporal_contrast(h, 1, 1.0))
    _, published = shares_of_adjacent(lambda h: published_contrast(h, 1))
    assert corrected < 0.7 * before < 0.7
    assert published > 1 > before


def test_masked_frames_are_a_loop_over_masked_frames():
    out, targets, places = states(seed=1), states(seed=2), torch.tensor([[0, 4], [6, 3], [2, 1]])
    for near, margin in [(0, 1.0), (1, 2.0)]:
        wanted = []
        for b in range(B):
            rows = []
            for m in places[b].tolist():
                d = [float((normal(out[b, m]) - normal(targets[b, t])).square().mean()) for t in range(T)]
                pull = [d[t] for t in range(T) if abs(t - m) <= near]
                push = [max(0.0, margin - d[t]) for t in range(T) if abs(t - m) > near]
                rows.append(np.mean(pull) + np.mean(push))
            wanted.append(np.mean(rows))
        assert masked_loss(out, targets, places, near, margin).tolist() == pytest.approx(wanted, abs=1e-5)


def test_the_masked_loss_is_zero_when_targets_are_met_and_others_lie_beyond_the_margin():
    targets = torch.eye(T).repeat(2, 1, 1) * 3
    places = torch.tensor([[0, 4], [6, 3]])
    assert masked_loss(targets, targets, places, 0, 1.0).abs().max() < 1e-6
    assert masked_loss(targets.flip(1), targets, places[:, :1], 0, 1.0).min() > 0.1


def test_masks_are_drawn_for_every_window_and_targets_are_those_before():
    seen, outputs = [], outputs_of()

    def again(given):
        seen.append(given)
        return given

    objective = MaskedFrames.Config(share=0.3).build((2, 4, 5, 3, T), D)
    changed = RunOutputs(**{**vars(outputs), "again": again})
    before = outputs.frames.detach().clone()
    found = objective(changed)
    assert torch.equal(outputs.frames, before)
    hidden = (seen[0] == 0).all(2)
    assert hidden.sum(1).tolist() == [2, 2, 2]
    assert len({tuple(row) for row in hidden.tolist()}) > 1
    places = masked_places(outputs.draws, T, 0.3)
    assert torch.equal(torch.zeros(B, T, dtype=torch.bool).scatter(1, places, True), hidden)
    # What a masked state is held to is what stood there, not the zero that replaced it.
    torch.testing.assert_close(found, masked_loss(seen[0], before, places))
    assert float((found - masked_loss(seen[0], seen[0], places)).detach().abs().max()) > 1e-3
    found.sum().backward()
    assert float(outputs.frames.grad.gather(1, places[..., None].expand(-1, -1, D)).abs().max()) == 0
    assert len(seen) == 1
    assert objective.config.transformer


def test_frame_infonce_is_a_loop_over_pairs():
    h, wanted = states(), []
    for b in range(B):
        unit, rows = F.normalize(h[b], dim=1), []
        for a in range(T):
            logits = {c: float(unit[a] @ unit[c]) / 0.3 for c in range(T) if c != a}
            total = sum(np.exp(value) for value in logits.values())
            rows += [-np.log(np.exp(logits[c]) / total) for c in logits if abs(a - c) <= 2]
        wanted.append(np.mean(rows))
    assert frame_infonce(h, 0.3, 2).tolist() == pytest.approx(wanted, rel=1e-5)


def test_windows_of_a_subject_are_positives_of_each_other():
    torch.manual_seed(0)
    objective = SubjectWindows.Config(temperature=0.3).build((2, 4, 5, 3, T), D)
    outputs = outputs_of(6)
    changed = RunOutputs(**{**vars(outputs), "subjects": torch.tensor([0, 0, 1, 1, 2, 2])})
    unit, rows = F.normalize(objective.projection(outputs.embedding), dim=1).detach(), []
    for a in range(6):
        logits = {c: float(unit[a] @ unit[c]) / 0.3 for c in range(6) if c != a}
        rows.append(-logits[a ^ 1] + np.log(sum(np.exp(value) for value in logits.values())))
    assert float(objective(changed)) == pytest.approx(np.mean(rows), rel=1e-5)
    wanted = supervised_contrastive(objective.projection(outputs.embedding), changed.subjects, 0.3)
    assert torch.equal(objective(changed), wanted)


@pytest.mark.parametrize("config", [TemporalContrast.Config(), MaskedFrames.Config(), FrameInfoNCE.Config(near=2)])
def test_windows_of_too_few_frames_are_refused(config):
    with pytest.raises(SettingError, match="take more frames"):
        config.build((1, 4, 4, 4, 1), D)


@pytest.mark.parametrize("step", [0.003, 0.03])
def test_mixed_precision_leaves_objectives_alone(step):
    """Near states differ by little; products in half precision lose that."""
    walk = torch.cumsum(step * torch.randn(2, 8, 64, generator=torch.manual_seed(0)), 1) + torch.randn(2, 1, 64)
    places = torch.tensor([[1, 4], [0, 7]])
    losses = {
        "corrected": lambda h: temporal_contrast(h, margin=0.01).sum(),
        "published": published_contrast,
        "infonce": lambda h: frame_infonce(h, 0.1).sum(),
        "masked": lambda h: masked_loss(h, walk.flip(1), places).sum(),
    }
    for name, loss in losses.items():
        gradients = []
        for mixed in (False, True):
            states = walk.clone().requires_grad_()
            with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
                value = loss(states)
            assert value.dtype == torch.float32, name
            gradients.append(torch.autograd.grad(value, states)[0].flatten())
        assert float(torch.nn.functional.cosine_similarity(*gradients, dim=0)) > 0.999, name
