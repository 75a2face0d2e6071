"""Plots of reports, by matplotlib, without a display."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from io import BytesIO
from math import isfinite
from typing import Any

SOFT, NETWORK = "#667085", "#0b6e99"


def figure(width: float, height: float) -> Any:
    """An empty matplotlib figure of so many inches; it belongs to no window."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    made = Figure(figsize=(width, height))
    FigureCanvasAgg(made)
    return made


def svg_address(made: Any) -> str:
    """A figure as a data address for an <img>: the same bytes for the same figure, no date in it."""
    from matplotlib import rc_context

    made.set_layout_engine("constrained")
    buffer = BytesIO()
    with rc_context({"svg.hashsalt": "meshgnn", "svg.fonttype": "path"}):
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        made.savefig(buffer, format="svg", metadata=nothing, transparent=True)
    return f"data:image/svg+xml;base64,{b64encode(buffer.getvalue()).decode()}"


def learning_curves(history: Sequence[Mapping[str, str]]) -> str:
    """Address of a picture of validation macro-F1 over epochs, one line per member; "" if there is nothing to draw.

    Args:
        history: rows of metrics.csv.
    """
    lines: dict[tuple[str, str], tuple[list[float], list[float]]] = {}
    for row in history:
        epochs, scores = lines.setdefault((row["seed"], row["fold"]), ([], []))
        epochs.append(float(row["epoch"]))
        scores.append(float(row["validation_macro_f1"]))
    if not lines:
        return ""
    made = figure(7.2, 2.6)
    axis = made.subplots()
    for epochs, scores in lines.values():
        axis.plot(epochs, scores, color=NETWORK, alpha=0.45, linewidth=1.1)
    axis.set_ylim(bottom=0)
    axis.set_xlim(left=0)
    axis.set_xlabel("epoch", color=SOFT)
    axis.set_ylabel("validation macro-F1", color=SOFT)
    axis.tick_params(colors=SOFT, labelsize=8)
    axis.grid(axis="y", color="#e4e7ec", linewidth=0.7)
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color("#98a2b3")
    return svg_address(made)


def scatter(points: Sequence[tuple[float, float]], x_label: str, y_label: str) -> str:
    """Address of a picture of predicted over true values, one dot each, with the line on which both are equal.

    Args:
        points: (true, predicted).
    """
    made = figure(3.4, 3.3)
    axis = made.subplots()
    ends = [min(map(min, points)), max(map(max, points))]
    axis.plot(ends, ends, color="#98a2b3", linestyle="--", linewidth=1)
    axis.scatter(*zip(*points), s=14, color=NETWORK, alpha=0.6, linewidths=0)
    axis.set_aspect("equal", adjustable="datalim")
    axis.set_xlabel(x_label, color=SOFT)
    axis.set_ylabel(y_label, color=SOFT)
    _tidy(axis)
    return svg_address(made)


def _tidy(axis: Any) -> None:
    axis.tick_params(colors=SOFT, labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color("#98a2b3")


def ranked(names: Sequence[str], scores: Sequence[tuple[float, float, float]], label: str, chance: float) -> str:
    """Address of a picture of scores with their intervals, one row each, in the order given from above.

    Args:
        scores: (score, low, high).
        label: of the axis.
        chance: where a line is drawn.
    """
    made = figure(7.2, 0.7 + 0.17 * len(names))
    axis = made.subplots()
    places = range(len(names))
    axis.axvline(chance, color="#98a2b3", linestyle="--", linewidth=1)
    for place, (score, low, high) in zip(places, scores):
        if isfinite(low) and isfinite(high):
            axis.plot([low, high], [place, place], color=NETWORK, alpha=0.5, linewidth=1.4)
        axis.plot([score], [place], color=NETWORK, marker="o", markersize=3.5)
    axis.set_yticks(list(places), list(names))
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.set_xlabel(label, color=SOFT)
    _tidy(axis)
    return svg_address(made)


def curves(lines: Mapping[str, Sequence[tuple[float, float, float, float]]], x_label: str, y_label: str) -> str:
    """Address of a picture of curves with their intervals, over a logarithmic axis.

    Args:
        lines: by name, (x, y, low, high) in ascending order of x.
    """
    made = figure(7.2, 3.6)
    axis = made.subplots()
    colours = (SOFT, NETWORK, "#c2571a", "#3b7a3b", "#7a4fa3", "#a33b5e")
    ticks: set[float] = set()
    for (name, points), colour in zip(lines.items(), colours * len(lines)):
        x, y, low, high = zip(*points)
        axis.plot(x, y, color=colour, marker="o", markersize=3.5, linewidth=1.5, label=name)
        axis.fill_between(x, low, high, color=colour, alpha=0.12, linewidth=0)
        ticks |= set(x)
    axis.set_xscale("log", base=2)
    axis.set_xticks(sorted(ticks), [f"{tick:g}" for tick in sorted(ticks)])
    axis.minorticks_off()
    axis.set_xlabel(x_label, color=SOFT)
    axis.set_ylabel(y_label, color=SOFT)
    axis.legend(frameon=False, fontsize=8)
    axis.grid(axis="y", color="#e4e7ec", linewidth=0.7)
    _tidy(axis)
    return svg_address(made)
