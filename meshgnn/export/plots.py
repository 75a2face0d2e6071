"""Plots of reports, by matplotlib, without a display."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from io import BytesIO
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
    axis.tick_params(colors=SOFT, labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color("#98a2b3")
    return svg_address(made)
