"""The page of a network: one HTML file that opens from disk: network, tables, the grid of scores, saved views."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshgnn.errors import InputError
from meshgnn.export.page.shell import filled
from meshgnn.networks.models import NUMBERS, Models
from meshgnn.networks.record import Layer, Network
from meshgnn.networks.summary import LEVEL
from meshgnn.results import EffectRow
from meshgnn.store import content_hash, write_text

DIGITS = 5
MOST_EDGES = 100_000
MOST_MODELS = 100_000


def write_network_page(
    path: Path,
    network: Network,
    models: Models | None = None,
    *,
    title: str = "",
    drawn: float = 0.6,
    q: float = 0.05,
    levels: Sequence[str] = (),
    back_end: str = "",
    effects: Sequence[EffectRow] = (),
    notes: Sequence[str] = (),
) -> None:
    """Write the page.

    Args:
        path: of the HTML file.
        network: numbers per node named `group_level_K` are the groups of level K, all others sizes to choose from.
        models: a table of every node's models is shown, and the grid of scores; rows of other targets are not.
        title: of the page; the network's name if empty.
        drawn: share of the edges that are drawn at first, heaviest first.
        q: below which edges are significant.
        levels: names of the levels of groups.
        back_end: what found the groups.
        effects: of mixed models.
        notes: shown beside the title.

    Raises:
        InputError: more edges or models than a page can hold.
    """
    html = network_page_html(
        network, models, title=title, drawn=drawn, q=q, levels=levels, back_end=back_end, effects=effects, notes=notes
    )
    write_text(Path(path), html)


def network_page_html(
    network: Network,
    models: Models | None = None,
    *,
    title: str = "",
    drawn: float = 0.6,
    q: float = 0.05,
    levels: Sequence[str] = (),
    back_end: str = "",
    effects: Sequence[EffectRow] = (),
    notes: Sequence[str] = (),
) -> str:
    """The text of the page; arguments as for `write_network_page`."""
    count = sum(layer.edges().shape[1] for layer in network.layers.values())
    if count > MOST_EDGES:
        raise InputError(
            f"{network.name}: {count} edges, a page holds {MOST_EDGES}; keep those of small q, or join nodes"
        )
    if models is not None and len(models.rows) > MOST_MODELS:
        raise InputError(f"{models.source}: {len(models.rows)} models, a page holds {MOST_MODELS}; leave targets out")
    groups = [name for name in network.values if name.startswith(LEVEL)]
    split = max((int(network.values[name].max()) for name in groups), default=0) > 0
    groups = groups if split else []
    sizes = [name for name in network.values if not name.startswith(LEVEL) and np.isfinite(network.values[name]).any()]
    meta: dict[str, Any] = {
        "title": title or network.name,
        "nodes": [
            {
                "name": name,
                "domain": network.domains[k],
                "groups": [int(network.values[level][k]) for level in groups],
                "values": {key: v for key in sizes if (v := _short(network.values[key][k])) is not None},
                "texts": {key: held[k] for key, held in network.texts.items()},
            }
            for k, name in enumerate(network.nodes)
        ],
        "layers": [_layer(name, layer) for name, layer in network.layers.items() if layer.edges().size],
        "levels": [levels[k] if k < len(levels) else f"level {k}" for k in range(len(groups))],
        "back_end": back_end,
        "sizes": sizes,
        "drawn": drawn,
        "q": q,
        "effects": [_effect(row) for row in effects],
        "notes": list(notes),
    }
    if models is not None:
        shown = set(network.nodes)
        meta["models"] = _models(models, shown)
        meta["grid"] = _grid(models, shown)
    meta["key"] = content_hash(meta["title"], list(network.nodes))
    return filled("network", meta["title"], meta)


def _effect(row: EffectRow) -> dict[str, Any]:
    """What the table shows, in its order: the interval over people beside the model's own."""
    plain = {key: _short(value) for key, value in row.to_json().items()}
    shown = dict.fromkeys(("domain", "score_name", "input", "estimate", "low", "high", "people_low", "people_high"))
    return shown | plain


def _short(value: Any) -> Any:
    """Numbers to so many digits, None for those that are not finite; whatever else as it is."""
    if not isinstance(value, float | np.floating):
        return value
    return float(f"{value:.{DIGITS}g}") if np.isfinite(value) else None


def _layer(name: str, layer: Layer) -> dict[str, Any]:
    edges = layer.edges()
    weights = layer.weights[tuple(edges)]
    return {
        "name": name,
        "unit": layer.unit,
        "text": layer.text,
        "edges": [[a, b, _short(w)] for a, b, w in zip(*edges.tolist(), weights.tolist())],
        "pairs": {key: _shorts(values[tuple(edges)]) for key, values in layer.pairs.items()},
    }


def _shorts(values: NDArray[np.float64]) -> list[Any]:
    return [_short(value) for value in values.tolist()]


def _models(models: Models, shown: set[str]) -> dict[str, Any]:
    """Rows as lists, texts that stand in many of them by number."""
    rows = [row for row in models.rows if row.target in shown]
    numbers = [name for name in NUMBERS if any(name in row.numbers for row in rows)]
    inputs = {text: k for k, text in enumerate(dict.fromkeys(row.inputs_text for row in rows))}
    scores = {text: k for k, text in enumerate(dict.fromkeys(row.score_name for row in rows))}
    found: dict[str, list[list[Any]]] = {}
    for target in dict.fromkeys(row.target for row in rows):
        found[target] = [
            [
                inputs[row.inputs_text],
                _short(row.score),
                *(_short(row.numbers.get(name)) for name in numbers),
                scores[row.score_name],
                row.name,
            ]
            for row in models.of(target)
        ]
    columns = ["inputs", "score", *numbers, "score_name", "name"]
    return {"columns": columns, "inputs": list(inputs), "scores": list(scores), "rows": found}


def _grid(models: Models, shown: set[str]) -> dict[str, Any] | None:
    """Best scores of targets with sets of inputs; None where there is one set."""
    sets, kept = models.input_sets(), [k for k, name in enumerate(models.targets) if name in shown]
    if len(sets) < 2 or not kept:
        return None
    scores = models.grid()[kept]
    tried = np.flatnonzero(np.isfinite(scores).any(0))
    return {
        "targets": [models.targets[k] for k in kept],
        "sets": [sets[k] for k in tried],
        "scores": [_shorts(row) for row in scores[:, tried]],
    }
