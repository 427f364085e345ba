"""Pictures of what was read: of each signal the band from min to max and its mean, gaps shaded with their reason, markers.

# Invariants
- A gap is never bridged: no line and no band crosses samples that are missing.
- Memory and time follow the width of a picture: more samples than that are folded first, so no spike is lost.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wavekeep import limits
from wavekeep.errors import InvalidQuestion, MissingPackage, UnknownSignal
from wavekeep.folding import fold
from wavekeep.listing import Gap, Marker
from wavekeep.moments import rfc3339
from wavekeep.signals import Columns, Samples

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from wavekeep.stream import Stream
    from wavekeep.waveform import StreamWaveform, Waveform

# None of them is in the cycle of lines.
_GAP_COLORS = {
    "evicted": "crimson",
    "corrupt": "crimson",
    "lost_by_server": "crimson",
    "quarantined": "darkviolet",
    "signal_off": "silver",
}
_GAP_COLOR = "gold"
_BASE_UNITS = ("A", "V", "W", "J", "C", "Hz", "s", "Ω", "F", "H", "Ah", "Wh")
"""Those that take a prefix: a thousand uJ are no kuJ."""
_MARKER_TEXTS_MAX = 24
_LEGEND_COLUMNS = 4
_MARKER_LETTERS_MAX = 24


class _Trace(NamedTuple):
    """What is drawn of one signal of one stream, by the seconds since the picture's start. NaN breaks it."""

    start_s: NDArray[np.float64]
    end_s: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    mean: NDArray[np.float64]


def load_pyplot() -> Any:
    """Matplotlib, where it is installed."""
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise MissingPackage("matplotlib", "plot") from error
    return pyplot


def plot(
    waveform: Waveform,
    names: Sequence[str] | None,
    markers: Callable[[], Sequence[Marker]],
    axes: Axes | Sequence[Axes] | None,
    label: str | None,
) -> Figure:
    """See `Waveform.plot`."""
    pyplot = load_pyplot()
    there = list(dict.fromkeys(name for stream in waveform for name in stream.signals))
    drawn = list(names) if names is not None else there
    unknown = [name for name in drawn if name not in there]
    if unknown or not drawn:
        raise UnknownSignal(
            f"there is no signal {', '.join(unknown) or 'at all'} in this answer: it has {', '.join(there) or 'none'}"
        )
    rows = rows_for(pyplot, drawn, axes)
    labels = {} if label is not None else _labels([stream.stream for stream in waveform])
    given = _colors(pyplot, list(dict.fromkeys(stream.stream.id for stream in waveform)), are_new=axes is None)
    found = markers()
    named: set[str] = set()
    start_ns = min(int(stream.time_ns[0]) for stream in waveform if len(stream.time_ns))
    for row, name in zip(rows, drawn, strict=True):
        unit = ""
        colors: dict[str, Any] = dict(given)
        # Where a stream has one color in all rows, its name stands once.
        seen = named if axes is None and label is None else set[str]()
        for stream in waveform:
            if name in stream:
                signal, of = stream[name], stream.stream.id
                unit = unit or signal.unit
                # Of several streams each has its color, so that nobody takes one for the other; times of a stream share one.
                called = None if of in seen else label or labels.get(of)
                seen.add(of)
                colors[of] = _draw(row, stream, signal, start_ns, (called, colors.get(of)))
        _shade(row, waveform, name, start_ns)
        _mark(row, found, start_ns, with_text=row is rows[0])
        dress(row, name, unit)
    rows[-1].set_xlabel(f"time after {rfc3339(start_ns)}")
    if axes is None:
        devices = list(dict.fromkeys(stream.stream.device for stream in waveform))
        title = ", ".join(devices) if len(devices) <= limits.TITLE_DEVICES else f"{len(devices):,} devices"
        lines = -(-len(rows[0].get_legend_handles_labels()[0]) // _LEGEND_COLUMNS)
        # Above the legend, where that has several lines.
        rows[0].set_title(title, loc="left", pad=None if lines < 2 else 6 + 13 * lines)
    figure: Figure = rows[0].figure
    return figure


def _labels(streams: Sequence[Stream]) -> dict[str, str]:
    """What the legend calls each of several streams: by device or run where that tells it from all others, else with its id. Of
    very many, the last one that is named says how many more there are."""
    by_id = {stream.id: stream for stream in streams}
    if len(by_id) < 2:
        return {}
    ways: list[Callable[[Stream], str]] = [
        lambda stream: stream.device,
        lambda stream: stream.run,
        lambda stream: ", ".join(part for part in (stream.device, stream.run) if part),
    ]
    names: dict[str, str] = {}
    for way in ways:
        names = {of: way(stream) for of, stream in by_id.items()}
        if all(names.values()) and len(set(names.values())) == len(names):
            break
    else:
        counts = Counter(names.values())
        several = len(counts) > 1
        for of, name in names.items():
            if counts[name] > 1:
                names[of] = f"{name}, {of[:8]}" if several else of[:8]
    if len(names) > limits.LEGEND_STREAMS:
        last = list(names)[limits.LEGEND_STREAMS - 1]
        names = {of: names[of] for of in list(names)[: limits.LEGEND_STREAMS]}
        names[last] += f" … and {len(by_id) - limits.LEGEND_STREAMS:,} more"
    return names


def _colors(pyplot: Any, streams: Sequence[str], *, are_new: bool) -> dict[str, Any]:
    """Of each stream, one for all signals. None twice: of more streams than the cycle of lines has colors, along a map of colors.
    Axes that were given go on with their own cycle where it is long enough."""
    cycle = pyplot.rcParams["axes.prop_cycle"].by_key().get("color", [])
    if len(streams) > len(cycle):
        along = pyplot.get_cmap("turbo")
        return {of: along(at / max(1, len(streams) - 1)) for at, of in enumerate(streams)}
    return dict(zip(streams, cycle, strict=False)) if are_new else {}


def rows_for(pyplot: Any, names: Sequence[str], axes: Axes | Sequence[Axes] | None) -> list[Any]:
    """Axes for each of these signals: those given, or new ones below each other."""
    if axes is None:
        size = (11, 1.2 + 2.4 * len(names))
        figure, rows = pyplot.subplots(len(names), 1, sharex=True, squeeze=False, figsize=size, layout="constrained")
        # Returned, and shown by whoever wants to: not kept for ever by pyplot.
        pyplot.close(figure)
        return list(rows[:, 0])
    given: list[Any] = list(axes) if isinstance(axes, (Sequence, np.ndarray)) else [axes]
    if len(given) != len(names):
        raise InvalidQuestion(f"{len(names)} signals are drawn into as many axes, and {len(given)} were given")
    return given


def _seconds(time_ns: Any, start_ns: int) -> Any:
    return (np.asarray(time_ns) - start_ns) / 1e9


def _draw(
    axes: Any, stream: StreamWaveform, signal: Samples | Columns, start_ns: int, label_and_color: tuple[str | None, Any]
) -> Any:
    """Answers with which color."""
    label, color = label_and_color
    if isinstance(signal, Samples) and len(signal) <= limits.DOTTED_SAMPLES:
        values = signal.samples
        if values.dtype.names:
            values = values["high"] * 2.0**64 + values["low"]
        heights = np.ma.filled(values.astype(np.float64), np.nan)
        look = {"linewidth": 1, "marker": ".", "markersize": 4, "label": label, "color": color}
        return axes.plot(_seconds(signal.time_ns, start_ns), heights, **look)[0].get_color()
    trace = _trace(stream, signal, start_ns)
    # Two points for each column: its band has its width, and what is NaN breaks it.
    across = np.stack([trace.start_s, trace.end_s], axis=1).ravel()
    low, high, mean = (np.repeat(values, 2) for values in (trace.low, trace.high, trace.mean))
    used = axes.plot(across, mean, linewidth=0.9, label=label, color=color)[0].get_color()
    axes.fill_between(across, low, high, alpha=0.35, linewidth=0.4, color=used)
    return used


def _trace(stream: StreamWaveform, signal: Samples | Columns, start_ns: int) -> _Trace:
    rate_hz = stream.stream.rate_hz
    if isinstance(signal, Columns):
        start_s, edges = _seconds(signal.time_ns, start_ns), signal.edges()
        low, high, mean = signal.min, signal.max, signal.mean
    else:
        folded = fold(signal, -(-len(signal) // limits.DRAWN_POINTS))
        edges, low, high, mean = folded.edges, folded.min, folded.max, folded.mean
        start_s = _seconds(signal.time_ns[edges[:-1] - signal.first_sample], start_ns)
    end_s = np.append(start_s[1:], start_s[-1:] + np.diff(edges[-2:]) / rate_hz)
    return _Trace(start_s, end_s, low, high, mean)


def _shade(axes: Any, waveform: Waveform, name: str, start_ns: int) -> None:
    by_reason: dict[str, list[Gap]] = {}
    for stream in waveform:
        for gap in stream.gaps:
            if name in stream and gap.concerns(name):
                by_reason.setdefault(str(gap.reason), []).append(gap)
    for reason, gaps in by_reason.items():
        spans = [(_seconds(gap.from_ns, start_ns), (gap.to_ns - gap.from_ns) / 1e9) for gap in gaps]
        missing = sum(gap.count for gap in gaps)
        color = _GAP_COLORS.get(reason, _GAP_COLOR)
        axes.broken_barh(
            spans,
            (0, 1),
            transform=axes.get_xaxis_transform(),
            facecolor=color,
            edgecolor=color,
            linewidth=0.5,
            alpha=0.35,
            zorder=0,
            label=f"{reason}: {len(gaps):,} {'gap' if len(gaps) == 1 else 'gaps'}, {missing:,} samples",
        )


def _mark(axes: Any, markers: Sequence[Marker], start_ns: int, *, with_text: bool) -> None:
    for at, marker in enumerate(markers):
        where = _seconds(marker.time_ns, start_ns)
        axes.axvline(where, color="black", linewidth=0.7, linestyle="--", alpha=0.6)
        text = str(marker)
        if with_text and at < _MARKER_TEXTS_MAX and text:
            short = text if len(text) <= _MARKER_LETTERS_MAX else f"{text[:_MARKER_LETTERS_MAX]}…"
            axes.annotate(
                short,
                (where, 1),
                xycoords=axes.get_xaxis_transform(),
                xytext=(2, -3),
                textcoords="offset points",
                rotation=90,
                va="top",
                ha="left",
                fontsize="x-small",
            )


def dress(axes: Any, name: str, unit: str) -> None:
    """Names, units and a legend, after all was drawn."""
    from matplotlib.ticker import EngFormatter

    axes.set_ylabel(name if not unit or unit in _BASE_UNITS else f"{name} [{unit}]")
    axes.xaxis.set_major_formatter(EngFormatter("s"))
    if unit in _BASE_UNITS:
        axes.yaxis.set_major_formatter(EngFormatter(unit))
    axes.grid(alpha=0.25)
    axes.margins(x=0.01)
    if axes.get_legend_handles_labels()[0]:
        # Above the axes, where it hides no sample.
        axes.legend(
            loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0.2, ncols=_LEGEND_COLUMNS, frameon=False, fontsize="small"
        )
