"""The first two phases: what they learn, what they hand on, and that a training goes on as if nothing had been."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler as of

from features.encoders.attention_layers import AttentionLayers
from features.encoders.frame_encoder import FrameEncoder
from features.encoders.run_transformer import RunTransformer
from features.encoders.token_sequence import TokenSequence
from features.fmri.autoencoder import RunAutoencoder
from features.fmri.draws import WindowDraws
from features.fmri.model_files import WEIGHTS, read_phase
from features.fmri.phase import PhaseTraining
from features.fmri.repeatable import repeatable
from features.fusion.multi_input_net import InputBlock, MultiInputNet
from features.objectives.intensity import Intensity
from features.objectives.masked_frames import MaskedFrames
from features.objectives.perceptual import Perceptual
from features.objectives.reconstruction import Reconstruction
from features.objectives.subject_windows import SubjectWindows
from features.objectives.temporal_contrast import TemporalContrast
from features.traits.items import TraitItems
from features.traits.training import TraitMember, TraitTrainer
from features.transfer.optimiser import Optimiser
from features.transfer.rates import Constant, OneCycle, StepDecay, WarmUpCosine
from features.weight_files import read_weights
from meshgnn.config import from_plain, to_plain
from meshgnn.errors import InputError, SettingError
from meshgnn.override import override
from meshgnn.sockets import WindowedItems
from meshgnn.store import read_json
from tests.features.runs_in_memory import Runs

LAYERS = AttentionLayers.Config(depth=1, heads=2, dropout=0.0)
FRAMES = FrameEncoder.Config(channels=(4, 8), blocks=(1, 1), features=8)
NETWORK = RunAutoencoder.Config(
    encoder=RunTransformer.Config(frames=FRAMES, sequence=TokenSequence.Config(layers=LAYERS))
)
FIRST = PhaseTraining.Config(
    network=NETWORK, objectives=(Reconstruction.Config(), Intensity.Config()), steps=6, validate_every=2, batch=4
)
SECOND = replace(
    FIRST, phase="transformer", objectives=(Reconstruction.Config(), TemporalContrast.Config(), MaskedFrames.Config())
)
TRAIN, JUDGED = np.arange(4), np.arange(4, 6)


def weights(result):
    return read_weights(result.folder / WEIGHTS)[0]


def size_of(module: nn.Module) -> int:
    return sum(one.numel() for one in module.parameters())


@pytest.fixture(scope="module")
def runs():
    found = Runs()
    assert isinstance(found, WindowedItems)
    return found


@pytest.fixture(scope="module")
def first(runs, tmp_path_factory):
    return FIRST.build().run(runs, TRAIN, JUDGED, tmp_path_factory.mktemp("first"))


@pytest.mark.parametrize(("transformer", "size"), [(False, 7_271_359), (True, 109_559_023)])
def test_the_phases_have_the_published_sizes(transformer, size):
    config = RunAutoencoder.Config(encoder=RunTransformer.Config.published(dropout=0.2))
    with torch.device("meta"):
        network = config.build((2, 75, 93, 81, 20), transformer=transformer)
        window = torch.zeros(1, 2, 75, 93, 81, 20)
        outputs = network(window, torch.zeros(1), [(0,)])
    assert size_of(network) == size
    assert outputs.rebuilt.shape == (1, 1, 75, 93, 81, 20)
    assert outputs.states.shape == outputs.frames.shape == (1, 20, 2640)
    assert outputs.embedding.shape == (1, 2640)


def test_every_phase_hands_on_what_it_learnt_and_nothing_else(first, runs, tmp_path):
    assert first.started_from == {}
    second = replace(SECOND, init_from=first.start()).build().run(runs, TRAIN, JUDGED, tmp_path)
    told = second.started_from
    assert told["sha256"] == first.sha256
    assert sorted(told["carried"]) == sorted(weights(first))
    assert (told["changed"], told["dropped"]) == ([], [])
    assert told["new"]
    assert all(name.startswith("sequence.") for name in told["new"])
    assert "sequence.embed.cls.vector" in told["new"]
    assert read_json(tmp_path / "network.json")["started_from"] == told

    torch.manual_seed(1)
    encoder = NETWORK.encoder.build(runs.shape)
    drawn = {name: one.clone() for name, one in encoder.state_dict().items()}
    done = first.start().build().into(encoder)
    for name, one in encoder.state_dict().items():
        wanted = weights(first)[name] if name.startswith("frames.") else drawn[name]
        assert torch.equal(one, wanted), name
    assert all(name.startswith("decoder.") for name in done.unused)
    done = second.start().build().into(encoder)
    assert done.kept == ()
    for name, one in encoder.state_dict().items():
        assert torch.equal(one, weights(second)[name]), name


def test_the_third_phase_is_an_input_of_traits_that_starts_from_a_file(first, runs):
    member = TraitMember(
        network=MultiInputNet.Config(blocks=(InputBlock(name="bold", encoder=NETWORK.encoder),)),
        items=TraitItems({"bold": runs}), values=np.zeros((6, 1)), classes=(2,), train=np.arange(6) < 4,
        validation=np.arange(6) > 3, seed=1, pretrained={"bold": first.start()},
    )  # fmt: skip
    encoder = member.build().encoders[0]
    for name, one in encoder.frames.state_dict().items():
        assert torch.equal(one, weights(first)[f"frames.{name}"])
    other = replace(first.start(), fresh=("sequence.", "frames.squeeze."))
    trainer = TraitTrainer()
    assert member.key(trainer) == replace(member, pretrained={"bold": first.start()}).key(trainer)
    assert member.key(trainer) != replace(member, pretrained={"bold": other}).key(trainer)


def test_no_layer_stays_random_silently(first, runs, tmp_path):
    encoder = NETWORK.encoder.build(runs.shape)
    plain = replace(first.start(), fresh=())
    with pytest.raises(InputError, match=r"has no weight 'sequence\."):
        plain.build().into(encoder)
    with pytest.raises(InputError, match=r"has no weight 'sequence\."):
        replace(SECOND, init_from=plain).build().run(runs, TRAIN, JUDGED, tmp_path)
    with pytest.raises(SettingError, match="no weight of this network begins with 'sequense"):
        replace(first.start(), fresh=("sequense.",)).build().into(encoder)
    with pytest.raises(InputError, match="another file, or a changed one"):
        replace(first.start(), sha256="0" * 64).build()
    wider = replace(NETWORK.encoder, frames=replace(FRAMES, features=10))
    with pytest.raises(InputError, match="cannot become"):
        first.start().build().into(wider.build(runs.shape))


def test_what_no_objective_reaches_is_refused_or_left_out(runs, tmp_path):
    sequence = TokenSequence.Config(layers=LAYERS, pool="pooler", vocabulary=1)
    encoder = replace(NETWORK.encoder, sequence=sequence)
    config = replace(SECOND, network=replace(NETWORK, encoder=encoder), steps=1)
    with pytest.raises(SettingError, match=r"no objective reaches sequence\.embed\.words \(3 weights in all\)"):
        config.build().run(runs, TRAIN, JUDGED, tmp_path / "a")
    config = replace(config, untrained=("sequence.embed.words", "sequence.pool."))
    result = config.build().run(runs, TRAIN, JUDGED, tmp_path / "b")
    pool = {"sequence.embed.words", "sequence.pool.dense.weight", "sequence.pool.dense.bias"}
    assert set(result.untrained) == set(result.start().fresh) == pool
    assert not pool & set(weights(result))
    done = result.start().build().into(encoder.build(runs.shape))
    assert set(done.kept) == pool
    both = replace(config, objectives=(Reconstruction.Config(), SubjectWindows.Config()))
    result = both.build().run(runs, TRAIN, JUDGED, tmp_path / "c")
    assert result.untrained == ("sequence.embed.words",)


@pytest.mark.parametrize("config", [FIRST, replace(SECOND, keep="last")], ids=["autoencoder", "transformer"])
def test_a_training_that_stopped_goes_on_to_the_same_weights(config, runs, first, tmp_path):
    class Stop(Exception):
        pass

    def stop(step, done, total, figures=None, /):
        if done == 4:
            raise Stop

    start = first.start() if config.phase == "transformer" else None
    config = replace(config, init_from=start, optimiser=Optimiser.Config(learning_rate=3e-3))
    whole = config.build().run(runs, TRAIN, JUDGED, tmp_path / "whole")
    with pytest.raises(Stop):
        config.build().run(runs, TRAIN, JUDGED, tmp_path / "cut", stop)
    assert [path.suffix for path in (tmp_path / "cut").iterdir()] == [".safetensors"]
    runs.seen.clear()
    result = config.build().run(runs, TRAIN, JUDGED, tmp_path / "cut")
    learnt = [row for row, _ in runs.seen if row in TRAIN]
    assert len(learnt) == 2 * config.batch  # it did not begin again
    assert result.sha256 == whole.sha256
    assert result.history == whole.history
    runs.seen.clear()
    assert config.build().run(runs, TRAIN, JUDGED, tmp_path / "cut").sha256 == whole.sha256
    assert runs.seen == []  # a finished one is read
    other = replace(config, seed=1).build().run(runs, TRAIN, JUDGED, tmp_path / "cut")
    assert other.sha256 != whole.sha256


def test_a_killed_process_goes_on_to_the_same_weights(runs, tmp_path):
    code = (
        "import sys, time; import torch; torch.set_num_threads(int(sys.argv[2]))\n"
        "from tests.features.test_run_phases import FIRST, TRAIN, JUDGED, Runs\n"
        "def told(step, done, total, figures=None, /):\n"
        "    print(done, flush=True); time.sleep(60 if done == 4 else 0)\n"
        "FIRST.build().run(Runs(), TRAIN, JUDGED, sys.argv[1], told)\n"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "killed"), str(torch.get_num_threads())]
    running = subprocess.Popen(words, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
    assert running.stdout is not None
    assert [running.stdout.readline() for _ in range(2)] == [b"2\n", b"4\n"]
    running.kill()
    running.communicate()
    told = []
    result = FIRST.build().run(runs, TRAIN, JUDGED, tmp_path / "killed", lambda *words: told.append(words[1]))
    assert told == [6]
    assert result.sha256 == FIRST.build().run(runs, TRAIN, JUDGED, tmp_path / "whole").sha256


@pytest.mark.parametrize("change", [{"accumulate": 4}, {"recompute": True}], ids=["accumulate", "recompute"])
def test_micro_batches_and_recomputing_change_no_step(change, runs, tmp_path):
    everything = replace(
        SECOND, steps=3, objectives=(*SECOND.objectives, Intensity.Config(), Perceptual.Config(share=0.5)), keep="last"
    )
    one, other = (
        config.build().run(runs, TRAIN, JUDGED, tmp_path / str(k))
        for k, config in enumerate((everything, replace(everything, **change)))
    )
    for name, value in weights(one).items():
        torch.testing.assert_close(weights(other)[name], value, rtol=1e-3, atol=2e-5)
    for row, wanted in zip(other.history, one.history):
        assert row == pytest.approx(wanted, rel=1e-3)


@pytest.mark.parametrize(("precision", "kind"), [("float", torch.float32), ("bf16", torch.bfloat16)])
def test_numbers_are_those_that_the_setting_names(precision, kind, runs, tmp_path, monkeypatch):
    kinds = set()
    whole = nn.Conv3d.forward

    def told(self, x):
        found = whole(self, x)
        kinds.add(found.dtype)
        return found

    monkeypatch.setattr(nn.Conv3d, "forward", told)
    result = replace(SECOND, precision=precision, steps=1).build().run(runs, TRAIN, JUDGED, tmp_path)
    assert kinds == {kind}
    assert all(one.dtype == torch.float32 for one in weights(result).values())


def test_every_window_of_validation_is_read_once_and_always_the_same(tmp_path):
    runs = Runs()
    config = replace(FIRST, steps=4, windows=0)
    config.build().run(runs, TRAIN, JUDGED, tmp_path)
    judged = [one for one in runs.seen if one[0] in JUDGED]
    every = [(row, int(start)) for row in JUDGED.tolist() for start in runs.starts(row)]
    assert judged == every * 2
    drawn = [start for row, start in runs.seen if row in TRAIN]
    assert len(drawn) == 4 * config.batch
    assert any(start % 4 for start in drawn)


def test_validation_is_a_mean_of_subjects_whatever_the_batch(first, runs):
    network = NETWORK.build(runs.shape, transformer=False)
    network.load_state_dict(weights(first))
    network.eval()
    means = []
    for row in JUDGED.tolist():
        starts = runs.starts(row)
        window = torch.from_numpy(runs.read_at(np.full(len(starts), row), starts))
        with torch.no_grad():
            means.append((network(window, torch.zeros(len(starts)), []).rebuilt[:, 0] - window[:, 0]).abs().mean())
    best = min(first.history, key=lambda row: row["validation"])
    assert best["Reconstruction"] == pytest.approx(float(np.mean(means)), rel=1e-4)
    assert best["validation"] == pytest.approx(best["Reconstruction"] + best["Intensity"], rel=1e-6)


def test_draws_come_from_seed_and_step_alone():
    runs = Runs()
    draws, again = (WindowDraws(runs, np.array([4, 1, 3]), frames=2, seed=5) for _ in range(2))
    later = again.of_step(7, 6)
    windows = [draws.of_step(step, 6) for step in range(8)]
    assert np.array_equal(windows[7].rows, later.rows)
    assert np.array_equal(windows[7].first, later.first)
    for one in windows:
        assert sorted(one.rows.tolist()) == [1, 1, 3, 3, 4, 4]
    rows, first = (np.concatenate([getattr(one, name) for one in windows]) for name in ("rows", "first"))
    for row in (1, 3, 4):  # every frame may be the first one, up to the end of the run
        assert first[rows == row].min() >= 0
        assert first[rows == row].max() == runs.lengths[row] - 2 or len(set(first[rows == row])) > 8
    found = draws.read(later)
    assert found.shape == (6, 2, 8, 8, 7, 2)
    for window, row, start in zip(found, later.rows, later.first):
        assert np.array_equal(window.numpy(), runs.runs[row][..., start : start + 2])
    other = WindowDraws(runs, np.array([4, 1, 3]), frames=2, seed=6).of_step(7, 6)
    assert not np.array_equal(other.first, later.first)


def test_two_windows_of_a_subject_do_not_overlap():
    runs = Runs()
    draws = WindowDraws(runs, np.arange(6), frames=0, seed=0)
    gaps = set()
    for step in range(40):
        windows = draws.of_step(step, 8, each=2)
        assert np.array_equal(windows.rows[::2], windows.rows[1::2])
        gaps |= set(np.abs(windows.first[::2] - windows.first[1::2]).tolist())
    assert min(gaps) == 4
    assert len(gaps) > 3
    short = Runs(frames=8)
    short.lengths, short.last_start = np.full(6, 10), np.full(6, 2)
    windows = WindowDraws(short, np.arange(6), frames=0, seed=0).of_step(0, 4, each=2)
    assert sorted(windows.first[:2].tolist()) == [0, 2]


def test_an_autoencoder_learns(runs, tmp_path):
    config = replace(
        FIRST, objectives=(Reconstruction.Config(),), steps=60, validate_every=20,
        optimiser=Optimiser.Config(learning_rate=5e-3), rate=OneCycle(),
    )  # fmt: skip
    history = config.build().run(runs, TRAIN, JUDGED, tmp_path).history
    assert [row["step"] for row in history] == [20, 40, 60]
    assert history[-1]["loss"] < 0.7 * history[0]["loss"]
    assert history[-1]["validation"] < 0.8 * history[0]["validation"]


def test_rates_are_those_of_torch():
    weight = nn.Parameter(torch.zeros(1))
    weight.grad = torch.zeros(1)

    def told(make, steps):
        optimiser = torch.optim.SGD([weight], lr=0.1)
        schedule, found = make(optimiser), []
        for _ in range(steps):
            found.append(optimiser.param_groups[0]["lr"])
            optimiser.step()
            schedule.step()
        return found

    mine = [OneCycle(rise=0.3).at(step, 50, 0.1) for step in range(50)]
    assert mine == pytest.approx(told(lambda o: of.OneCycleLR(o, 0.1, total_steps=50, pct_start=0.3), 50), rel=1e-6)
    mine = [WarmUpCosine(warm_up=0, period=7, growth=2, floor=0.01).at(step, 50, 0.1) for step in range(50)]
    restarts = told(lambda o: of.CosineAnnealingWarmRestarts(o, 7, 2, eta_min=0.01), 50)
    assert mine == pytest.approx(restarts, rel=1e-6)
    mine = [StepDecay(factor=0.5, every=4, floor=0).at(step, 50, 0.1) for step in range(50)]
    assert mine == pytest.approx(told(lambda o: of.StepLR(o, 4, 0.5), 50), rel=1e-6)
    assert StepDecay(factor=0.5, every=1, floor=1e-5).at(40, 50, 0.1) == 1e-5
    rising = [WarmUpCosine(warm_up=0.2, decay=0.5, period=25).at(step, 50, 0.1) for step in range(50)]
    assert rising[:5] == pytest.approx([0.1 * k / 6 for k in range(1, 6)])
    assert max(rising[:25]) == pytest.approx(0.1)
    assert max(rising[25:]) == pytest.approx(0.05)
    assert Constant().at(9, 50, 0.1) == 0.1


def test_one_place_makes_kernels_repeatable():
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark
    with repeatable():
        assert (cudnn.deterministic, cudnn.benchmark) == (True, False)
    assert (cudnn.deterministic, cudnn.benchmark) == before


def test_settings_are_plain_and_checked(first, tmp_path):
    assert from_plain(PhaseTraining.Config, to_plain(SECOND)) == SECOND
    words = ["phase=transformer", "objectives=Reconstruction,MaskedFrames", "objectives.1.share=0.2", "rate=StepDecay"]
    found = override(PhaseTraining.Config(), words)
    assert found.objectives == (Reconstruction.Config(), MaskedFrames.Config(share=0.2))
    assert read_phase(first.folder).history == first.history
    for changes, told in [
        ({"objectives": (MaskedFrames.Config(),)}, "MaskedFrames needs a transformer"),
        ({"objectives": ()}, "one or more"),
        ({"phase": "transformer", "objectives": (SubjectWindows.Config(),), "accumulate": 2}, "compares all windows"),
        ({"phase": "transformer", "objectives": (SubjectWindows.Config(),), "batch": 5}, "cannot be cut"),
        ({"accumulate": 3}, "cannot be cut into 3"),
    ]:
        with pytest.raises(SettingError, match=told):
            replace(FIRST, **changes)


def test_what_cannot_be_learnt_from_is_named(runs, first, tmp_path):
    with pytest.raises(InputError, match="1 subjects are both"):
        FIRST.build().run(runs, TRAIN, np.array([3, 4]), tmp_path)
    with pytest.raises(InputError, match="Intensity needs 2 channels"):
        FIRST.build().run(Runs(channels=1), TRAIN, JUDGED, tmp_path)
    with pytest.raises(InputError, match="windows have 4 frames, and 9"):
        replace(FIRST, frames=9).build().run(runs, TRAIN, JUDGED, tmp_path)
    with pytest.raises(SettingError, match="there is a single one"):
        replace(SECOND, frames=1).build().run(runs, TRAIN, JUDGED, tmp_path)
    absent = Runs()
    absent.observed[:4] = False
    with pytest.raises(InputError, match="of 4 subjects none"):
        FIRST.build().run(absent, TRAIN, JUDGED, tmp_path)
    wild = replace(FIRST, optimiser=Optimiser.Config(kind="sgd", learning_rate=1e30), clip=0)
    with pytest.raises(InputError, match="diverged"):
        wild.build().run(runs, TRAIN, JUDGED, tmp_path)
    (tmp_path / "network.json").write_text((first.folder / "network.json").read_text())
    (tmp_path / WEIGHTS).write_bytes((first.folder / WEIGHTS).read_bytes()[:-4] + b"abcd")
    with pytest.raises(InputError, match="not the weights"):
        read_phase(tmp_path)
