"""A picture of two groups of runs, laid over each other, and of their difference.

# Invariants
- A column that no run has samples in is not drawn, and no line or band crosses it.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from wavekeep import limits, plotting
from wavekeep.errors import InvalidQuestion

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from wavekeep.comparison import Comparison


def plot(comparison: Comparison, axes: Axes | Sequence[Axes] | None) -> Figure:
    """See `Comparison.plot`."""
    pyplot = plotting.load_pyplot()
    columns = comparison.columns
    if columns is None:
        raise InvalidQuestion("the comparison came without columns: ask for some, as in compare(…, points=1_000)")
    is_one = axes is not None and not isinstance(axes, (Sequence, np.ndarray))
    rows = plotting.rows_for(pyplot, [comparison.signal] if is_one else [comparison.signal, "difference"], axes)
    edges = np.append(columns.start_s, (columns.from_ns + len(columns) * columns.column_ns) / 1e9)
    # Two points for each column: its band has its width, and what is NaN breaks it.
    across = np.stack([edges[:-1], edges[1:]], axis=1).ravel()
    for group, drawn in zip(comparison, (columns.first, columns.second), strict=True):
        low, high, mean = (np.repeat(values, 2) for values in (drawn.min, drawn.max, drawn.mean))
        count = len(group.runs)
        line = rows[0].plot(across, mean, linewidth=0.9, label=f"{group.name}: {count:,} {'run' if count == 1 else 'runs'}")[0]
        rows[0].fill_between(across, low, high, alpha=0.25, linewidth=0.4, color=line.get_color())
    plotting.dress(rows[0], comparison.signal, comparison.unit)
    for row in rows[1:]:
        row.axhline(0, color="black", linewidth=0.7, alpha=0.6)
        label = f"{comparison.second.name} − {comparison.first.name}, of the means"
        row.plot(across, np.repeat(columns.difference, 2), linewidth=0.9, color="black", label=label)
        plotting.dress(row, "difference", comparison.unit)
    rows[-1].set_xlabel("time after the moment that is laid over each other")
    if axes is None:
        # Above the legend, which is as high as a line of it.
        rows[0].set_title(textwrap.fill(comparison.sentence, limits.TITLE_LETTERS), loc="left", fontsize="small", pad=22)
    figure: Figure = rows[0].figure
    return figure
