"""Objectives of pretraining against plain loops: loss and gradients, on one rank and on two."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import distributed, multiprocessing

from features.objectives.area_probabilities import AreaProbabilities
from features.objectives.contrastive import SupervisedContrastive, supervised_contrastive, weighted_contrastive
from features.objectives.cross_entropy import CrossEntropy
from features.objectives.distance_regression import DistanceRegression
from features.objectives.nt_xent import NTXent
from features.objectives.rows import Rows
from features.objectives.spatial_contrast import SpatialContrast
from features.objectives.weighted_sum import WeightedSum, needs_of
from tests.distributed.test_contrastive import free_port

CASES = {
    "supervised": SupervisedContrastive.Config(temperature=0.3, projection=4, classify=0.5),
    "entropy": CrossEntropy.Config(),
    "ntxent": NTXent.Config(temperature=0.5, projection=4, views=1),
    "product": AreaProbabilities.Config(temperature=0.3, projection=4),
    "bhattacharyya": AreaProbabilities.Config(temperature=0.3, projection=4, similarity="bhattacharyya"),
    "spatial": SpatialContrast.Config(temperature=0.3, projection=4, sigma_mm=1.5),
    "geodesic": SpatialContrast.Config(temperature=0.3, projection=4, sigma_mm=1.5, metric="geodesic"),
    "distance": DistanceRegression.Config(hidden=5, huber=0.7),
}
CASES["sum"] = WeightedSum.Config(parts=tuple(CASES[k] for k in ("supervised", "ntxent")), weights=(1.0, 0.3))
CHANNELS, CLASSES, COUNT = 6, 4, 14
PARTS = {1: [slice(None)], 2: [slice(0, None, 2), slice(1, None, 2)], -2: [slice(0, 5), slice(5, None)]}


def joint_batch() -> tuple[torch.Tensor, Rows]:
    """Two brains, pairs end to end; five rows without a class, two without a distribution."""
    rng = np.random.default_rng(5)
    place = rng.uniform(0, 4, (COUNT, 3)).astype(np.float32)
    soft = rng.dirichlet(np.ones(CLASSES), COUNT).astype(np.float32)
    soft[[3, 9]] = 0
    along = np.linalg.norm(place[:, None] - place[None], axis=-1) * 1.3
    along[np.add.outer(np.arange(COUNT) // 8, np.arange(COUNT) // 8) == 1] = np.inf
    values = {
        "label": np.array([0, 1, -1, 0, 1, 2, 0, -1, -1, 0, 3, -1, 1, -1]), "together": np.arange(COUNT) // 2,
        "item": np.arange(COUNT) * 3, "part": np.arange(COUNT) // 8, "place_mm": place, "soft": soft,
        "seat": np.arange(COUNT), "geodesic_mm": along.astype(np.float32),
        "apart_mm": np.repeat(rng.uniform(0.5, 60, COUNT // 2), 2).astype(np.float32),
    }  # fmt: skip
    features = torch.from_numpy(rng.normal(size=(COUNT, CHANNELS)))
    return features, Rows(**{name: torch.from_numpy(value) for name, value in values.items()})


def built(name: str) -> torch.nn.Module:
    torch.manual_seed(7)
    objective = CASES[name].build(CHANNELS, CLASSES).double()
    for part in objective.modules():
        if isinstance(part, DistanceRegression):
            part.standardise(np.array([1.0, 5.0, 30.0]))
    return objective


# Plain loops, one row after the other.


def level(x: torch.Tensor) -> torch.Tensor:
    return (x - x.mean(0)) / (((x - x.mean(0)) ** 2).mean(0) + 1e-5).sqrt()


def projected(module: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    one = module.projection
    z = torch.relu(level(level(x) @ one.hidden.weight.T + one.hidden.bias)) @ one.out.weight.T
    return torch.stack([row / row.norm() for row in z])


def contrast(z: torch.Tensor, weight, temperature: float) -> torch.Tensor:
    terms = []
    for i in range(len(z)):
        weights = [0.0 if i == j else float(weight(i, j)) for j in range(len(z))]
        if sum(weights) == 0:
            continue
        bottom = sum(torch.exp(z[i] @ z[a] / temperature) for a in range(len(z)) if a != i)
        shares = [w * torch.log(torch.exp(z[i] @ z[j] / temperature) / bottom) for j, w in enumerate(weights) if w]
        terms.append(-sum(shares) / sum(weights))
    return sum(terms) / len(terms)


def entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return sum(-torch.log(torch.exp(row[k]) / torch.exp(row).sum()) for row, k in zip(logits, labels)) / len(labels)


def plain(name: str, module: torch.nn.Module, x: torch.Tensor, rows: Rows) -> torch.Tensor:
    config, labelled = CASES[name], rows.label >= 0
    if name == "supervised":
        y, label = x[labelled], rows.label[labelled]
        logits = y @ module.prototypes.weight.T + module.prototypes.bias
        return contrast(projected(module, y), lambda i, j: label[i] == label[j], 0.3) + 0.5 * entropy(logits, label)
    if name == "entropy":
        return entropy(x[labelled] @ module.classify.weight.T + module.classify.bias, rows.label[labelled])
    if name == "ntxent":
        return contrast(projected(module, x), lambda i, j: i // 2 == j // 2, 0.5)
    if name in ("product", "bhattacharyya"):
        there = [k for k in range(COUNT) if k not in (3, 9)]
        p = rows.soft[there].double()
        p = p / p.sum(1, keepdim=True)

        def alike(i: int, j: int) -> float:
            pairs = zip(p[i].tolist(), p[j].tolist())
            found = sum(a * b if name == "product" else (a * b) ** 0.5 for a, b in pairs)
            return found if found >= 0.01 else 0.0

        return contrast(projected(module, x[there]), alike, 0.3)
    if name in ("spatial", "geodesic"):

        def near(i: int, j: int) -> float:
            apart = float((rows.place_mm[i].double() - rows.place_mm[j].double()).norm())
            apart = float(rows.geodesic_mm[i, j]) if name == "geodesic" else apart
            return np.exp(-(apart**2) / (2 * 1.5**2)) if rows.part[i] == rows.part[j] and apart <= 4.5 else 0.0

        return contrast(projected(module, x), near, 0.3)
    if name == "distance":
        target = np.log([2.0, 6.0, 31.0])
        y, terms = level(x), []
        for i in range(0, COUNT, 2):
            hidden = torch.relu(module.hidden.weight @ (y[i] - y[i + 1]).abs() + module.hidden.bias)
            off = module.out.weight[0] @ hidden + module.out.bias[0]
            off = off - (np.log1p(float(rows.apart_mm[i])) - target.mean()) / target.std()
            terms.append(0.5 * off**2 if abs(off) <= 0.7 else 0.7 * (abs(off) - 0.35))
        return sum(terms) / len(terms)
    assert isinstance(config, WeightedSum.Config)
    one, other = module.parts
    return plain("supervised", one, x, rows) + 0.3 * plain("ntxent", other, x, rows)


def told(loss: torch.Tensor, x: torch.Tensor, module: torch.nn.Module) -> dict[str, np.ndarray]:
    loss.backward()
    found = {"loss": loss.detach(), "features": x.grad}
    found |= {one: value.grad for one, value in module.named_parameters()}
    return {one: value.numpy() for one, value in found.items()}


def on_ranks(rank: int, port: int, out: str) -> None:
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    distributed.init_process_group("gloo", rank=rank, world_size=2)
    x, rows = joint_batch()
    for cut in (2, -2):
        place = PARTS[cut][rank]
        kept = torch.zeros(COUNT, dtype=torch.bool)
        kept[place] = True
        for name in CASES:
            module, own = built(name), x[place].clone().requires_grad_()
            found = told(module(own, rows.at(kept)), own, module)
            for one, value in found.items():  # what DistributedDataParallel does
                if one == "features":
                    value /= 2
                else:
                    distributed.all_reduce(torch.from_numpy(value.reshape(-1)))
                    found[one] = value / 2
            np.savez(f"{out}{cut}-{rank}-{name}.npz", **found)
    distributed.destroy_process_group()


def test_gradients_are_those_of_plain_loops_on_one_and_two_ranks(tmp_path: Path):
    multiprocessing.spawn(on_ranks, (free_port(), str(tmp_path / "r")), nprocs=2)
    x, rows = joint_batch()
    for name in CASES:
        module, own = built(name), x.clone().requires_grad_()
        ours = told(module(own, rows), own, module)
        module, own = built(name), x.clone().requires_grad_()
        expected = told(plain(name, module, own, rows), own, module)
        assert np.abs(expected["features"]).max() > 1e-3
        for one in expected:
            np.testing.assert_allclose(ours[one], expected[one], rtol=1e-7, atol=1e-9, err_msg=f"{name} {one}")
        for cut, rank in ((2, 0), (2, 1), (-2, 0), (-2, 1)):
            many = np.load(tmp_path / f"r{cut}-{rank}-{name}.npz")
            for one in expected:
                wanted = expected[one][PARTS[cut][rank]] if one == "features" else expected[one]
                np.testing.assert_allclose(many[one], wanted, rtol=1e-6, atol=1e-8, err_msg=f"{name} {one} {cut}")


def test_weights_of_0_and_1_are_supervised_and_one_positive_is_ntxent():
    z = torch.randn(9, 5, generator=torch.manual_seed(0), dtype=torch.float64)
    labels = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 3])
    same = labels[:, None] == labels[None, :]
    torch.testing.assert_close(weighted_contrastive(z, same.double(), 0.2), supervised_contrastive(z, labels, 0.2))
    torch.testing.assert_close(weighted_contrastive(z, same * 0.37, 0.2), supervised_contrastive(z, labels, 0.2))
    pairs = torch.arange(8) // 2
    weights = torch.rand(4).repeat_interleave(2)[:, None] * (pairs[:, None] == pairs[None, :])
    torch.testing.assert_close(weighted_contrastive(z[:8], weights, 0.5), supervised_contrastive(z[:8], pairs, 0.5))
    soft = torch.nn.functional.one_hot(labels, 4).double()
    for similarity in ("product", "bhattacharyya"):
        objective = AreaProbabilities.Config(temperature=0.2, similarity=similarity).build(5, 4)
        objective.projection = torch.nn.Identity()
        torch.testing.assert_close(objective(z, Rows(soft=soft)), supervised_contrastive(z, labels, 0.2))


@pytest.mark.parametrize("table", [1, 40, 1 << 16])
def test_blocks_of_rows_give_the_loss_and_gradient_of_the_whole_table(table: int, monkeypatch: pytest.MonkeyPatch):
    """Against the table as a whole, differentiated by autograd; one anchor has no positive."""
    monkeypatch.setattr("features.objectives.contrastive._TABLE", table)
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(11, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    weights = torch.rand(11, 11, generator=generator, dtype=torch.float64)
    weights = weights.masked_fill(weights < 0.6, 0)
    weights[3] = 0
    unit = torch.nn.functional.normalize(z, dim=1)
    itself = torch.eye(11, dtype=torch.bool)
    logits = (unit @ unit.T / 0.2).masked_fill(itself, float("-inf"))
    share = (logits - logits.logsumexp(1, keepdim=True)).masked_fill(itself, 0)
    drawn = weights.masked_fill(itself, 0)
    there = drawn.sum(1) > 0
    expected = -((drawn * share).sum(1)[there] / drawn.sum(1)[there]).mean()
    found = weighted_contrastive(z, weights, 0.2)
    torch.testing.assert_close(found, expected)
    for one, other in zip(torch.autograd.grad(3 * found, z), torch.autograd.grad(3 * expected, z)):
        torch.testing.assert_close(one, other)
    assert torch.autograd.gradcheck(lambda values: weighted_contrastive(values, weights, 0.5), (z,))


def test_spatial_weights_fall_with_distance_and_end_at_three_sigma():
    objective = SpatialContrast.Config(sigma_mm=1.0, temperature=0.5).build(5, 0)
    objective.projection = torch.nn.Identity()
    z = torch.randn(6, 5, generator=torch.manual_seed(1), dtype=torch.float64)
    place = torch.zeros(6, 3)
    place[:, 0] = torch.tensor([0, 0.1, 50, 50.1, 100, 200])  # two near pairs, two alone
    rows = Rows(place_mm=place, part=torch.zeros(6, dtype=torch.int64))
    pairs = torch.tensor([0, 0, 1, 1, 2, 3])
    torch.testing.assert_close(objective(z, rows), supervised_contrastive(z, pairs, 0.5))
    apart = Rows(place_mm=place, part=torch.tensor([0, 1, 0, 0, 0, 0]))  # the first pair lies in two brains
    torch.testing.assert_close(objective(z, apart), supervised_contrastive(z, torch.tensor([0, 4, 1, 1, 2, 3]), 0.5))
    assert objective(z, Rows(place_mm=place * torch.nan, part=rows.part)) == 0


@pytest.mark.parametrize("name", CASES)
def test_the_order_of_a_batch_does_not_matter(name: str):
    x, rows = joint_batch()
    module, order = built(name), torch.randperm(COUNT, generator=torch.manual_seed(2))
    torch.testing.assert_close(module(x[order], rows.at(order)), module(x, rows))


def test_a_batch_without_what_an_objective_needs_costs_nothing():
    x, rows = joint_batch()
    bare = Rows(seat=rows.seat, item=rows.item, geodesic_mm=torch.full((COUNT, COUNT), torch.inf))  # every row alone
    for name in CASES:
        own = x.clone().requires_grad_()
        loss = built(name)(own, bare)
        loss.backward()
        assert loss == 0, name
        assert own.grad.abs().max() == 0, name


def test_swapping_a_pair_changes_no_estimate():
    module, (x, _) = built("distance"), joint_batch()
    torch.testing.assert_close(module.estimate(x[:7], x[7:]), module.estimate(x[7:], x[:7]))


def test_what_a_sum_needs_is_what_its_parts_need():
    assert needs_of(CASES["sum"]) == ("label", "any")
    assert needs_of(CASES["supervised"]) == ("label",)
    mixed = WeightedSum.Config(parts=(CrossEntropy.Config(), SpatialContrast.Config(metric="geodesic", views=2)))
    assert needs_of(mixed) == ("label", "place", "geodesic", "any")
    assert (mixed.views, mixed.labelled, mixed.reach_mm) == (2, True, 3.0)
