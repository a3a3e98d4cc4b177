"""The charts of a report: results over time, rejections (429), run times, delays, queries per task."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from attrs import frozen

from ._bar_chart import Bars, bar_chart, plain_number
from ._folder import Entry, Folder
from ._markup import text
from ._statistics import Bins, bins_of, histogram, nice_step, quantile, time_step

__all__ = ("figures_section",)

#: Rows below which a chart shows less than its sentence.
_FEW = 12

#: The least span in seconds for which a unit is used, the seconds of the unit, and its name.
_UNITS = ((7200.0, 3600.0, "hours"), (180.0, 60.0, "minutes"), (0.0, 1.0, "seconds"))


def figures_section(folder: Folder) -> tuple[str, str]:
    """Return the title of the section of charts and its HTML: charts, then sentences for those without one.

    A batch of few rows gets sentences only, and none where nothing is known.
    """
    figures = (
        _throughput(folder),
        _rejections(folder),
        _spread(
            "Run times",
            [entry.seconds for entry in folder.entries],
            "seconds from acceptance to the end",
            "No task that ended has a known run time.",
        ),
        _spread(
            "Delay until the end was seen",
            [entry.lag for entry in folder.entries],
            "seconds from the end of a task until the client saw it",
            "Not known: the service did not report when its tasks ended.",
        ),
        _queries(folder.entries),
    )
    few = len(folder.entries) < _FEW
    drawn = [] if few else [figure for figure in figures if figure.drawing]
    others = [figure for figure in figures if figure not in drawn and (figure.drawing or not few)]
    charts = "".join(figure.as_chart() for figure in drawn)
    notes = "".join(
        f"<div><dt>{text(each.title)}</dt><dd>{text(each.sentence)}</dd></div>" for each in others
    )
    return "Charts" if drawn else "Times", (
        (f'<div class="figures">{charts}</div>' if charts else "")
        + (f'<dl class="sentences">{notes}</dl>' if notes else "")
        or '<p class="notes">No task has ended yet.</p>'
    )


@frozen
class _Figure:
    """A chart with its title and the sentence that says what it shows; without data only the sentence."""

    title: str
    sentence: str
    drawing: str = ""

    def as_chart(self) -> str:
        """Return it as HTML."""
        caption = f"<figcaption><h3>{text(self.title)}</h3><p>{text(self.sentence)}</p></figcaption>"
        return f"<figure>{caption}{self.drawing}</figure>"


# ---- over time


@frozen
class _Timeline:
    """The time from the first event of a batch to the last, in about 50 steps. Times are in seconds."""

    start: float
    end: float

    @property
    def step(self) -> float:
        return time_step(max(self.end - self.start, 1.0), 50)

    @property
    def size(self) -> int:
        """The number of steps."""
        return int((self.end - self.start) // self.step) + 1


def _timeline(folder: Folder) -> _Timeline | None:
    """Return the timeline of *folder*, None if no task ended."""
    ends = [entry.finished_at for entry in folder.entries if entry.finished_at is not None]
    if not ends:
        return None
    begins = [entry.submitted_at for entry in folder.entries if entry.submitted_at is not None]
    start = min([*ends, *begins, *(run.started_at for run in folder.runs)])
    return _Timeline(start, max([*ends, *(run.ended_at for run in folder.runs if run.ended_at is not None)]))


def _time_figure(
    title: str,
    sentence: str,
    time: _Timeline,
    y_label: str,
    series: Sequence[tuple[str, str, Sequence[int]]],
    scale: float = 1.0,
) -> _Figure:
    """Return a chart with a bar for each step of *time*, and its legend.

    *series* are triples of a CSS class, a name and the counts; *scale* times a count is its height.
    """
    span = time.size * time.step
    seconds, unit = next((seconds, unit) for least, seconds, unit in _UNITS if span >= least)

    def tooltip(place: int) -> str:
        begin, end = (plain_number(step * time.step / seconds) for step in (place, place + 1))
        return f"{begin} to {end} {unit}: {', '.join(f'{each[place]:,} {name}' for _, name, each in series)}"

    bars = Bars(
        label=f"{title}. {sentence}",
        x_label=f"{unit} since the start",
        y_label=y_label,
        start=0.0,
        step=time.step,
        series=[(colour, [count * scale for count in counts]) for colour, _, counts in series],
        x_step=time_step(span, 6),
        x_scale=seconds,
        tooltip=tooltip,
    )
    items = "".join(f'<li><i class="swatch {colour}"></i>{text(name)}</li>' for colour, name, _ in series)
    return _Figure(title, sentence, f'<ul class="legend">{items}</ul>{bar_chart(bars)}')


def _throughput(folder: Folder) -> _Figure:
    title, time = "Results over time", _timeline(folder)
    if time is None:
        return _Figure(title, "No task has ended yet.")
    good, bad = (
        bins_of(_ends(folder.entries, time.start, succeeded=succeeded), 0.0, time.step, time.size).counts
        for succeeded in (True, False)
    )
    seconds = time.end - time.start
    per, word = (1.0, "second") if len(folder.entries) >= seconds else (60.0, "minute")
    rate = plain_number(round(sum(good) / max(seconds, 1e-3) * per, 1))
    best = plain_number(round(max(good) * per / time.step, 1))
    sentence = f"{rate} succeeded per {word} on average, {best} at most."
    series = [("good", "succeeded", good), ("bad", "did not succeed", bad)]
    return _time_figure(title, sentence, time, f"per {word}", series, per / time.step)


def _ends(entries: Sequence[Entry], start: float, *, succeeded: bool) -> list[float]:
    """Return the seconds from *start* to each end, for the entries that *succeeded*, or for the others."""
    return [
        max(0.0, entry.finished_at - start)
        for entry in entries
        if entry.finished_at is not None and (entry.state == "succeeded") is succeeded
    ]


def _rejections(folder: Folder) -> _Figure:
    title, time = "Rejected by the rate limit (429)", _timeline(folder)
    if not folder.runs or time is None:
        return _Figure(title, "Not recorded: a run that is killed does not write it to runs.jsonl.")
    counts = {scope: [0] * time.size for scope in ("create", "query")}
    for run in folder.runs:
        for scope, rejections in run.throttled.items():
            for place, count in enumerate(rejections):
                at = int(max(0.0, run.started_at - time.start + place * run.step) // time.step)
                counts.setdefault(scope, [0] * time.size)[min(at, time.size - 1)] += count
    creates, queries = counts["create"], counts["query"]
    if not any(map(any, counts.values())):
        return _Figure(title, "No request was rejected.")
    sentence = (
        f"{sum(creates):,} creates and {sum(queries):,} queries were rejected and sent again later. "
        "This takes time and costs no credits."
    )
    y_label = f"rejections in {plain_number(time.step)} s"
    series = [("warn", "creates", creates), ("calm", "queries", queries)]
    return _time_figure(title, sentence, time, y_label, series)


# ---- distributions


def _spread(title: str, values: Sequence[float | None], x_label: str, without_data: str) -> _Figure:
    known = sorted(value for value in values if value is not None)
    if not known:
        return _Figure(title, without_data)
    bins = histogram(known)
    median, most, longest = (_seconds(quantile(known, share)) for share in (0.5, 0.95, 1.0))
    sentence = f"Median {median}, 95th percentile {most}, maximum {longest}."

    def tooltip(place: int) -> str:
        low, high = bins.start + place * bins.step, bins.start + (place + 1) * bins.step
        return f"{plain_number(low)} to {plain_number(high)} s: {bins.counts[place]:,} tasks"

    x_step = nice_step(bins.end - bins.start, 6)
    return _Figure(title, sentence, _histogram(f"{title}. {sentence}", x_label, bins, x_step, tooltip))


def _seconds(value: float) -> str:
    return f"{plain_number(float(f'{value:.3g}'))}\N{NO-BREAK SPACE}s"


def _queries(entries: Sequence[Entry]) -> _Figure:
    title = "Queries per task"
    counts = sorted(entry.queries for entry in entries if entry.queries)
    if not counts:
        return _Figure(title, "No query was sent.")
    most = quantile(counts, 0.995)
    step = max(1.0, nice_step(most, 30))
    bins = bins_of(counts, 0.5, step, int(most / step) + 1)
    mean = plain_number(round(sum(counts) / len(counts), 2))
    sentence = f"{mean} on average, {counts[-1]:,} at most."

    def tooltip(place: int) -> str:
        first, last = int(place * step) + 1, int((place + 1) * step)
        number = f"{first:,}" if first == last else f"{first:,} to {last:,}"
        return f"{number} queries: {bins.counts[place]:,} tasks"

    x_step = max(1.0, nice_step(bins.end, 10))
    return _Figure(title, sentence, _histogram(f"{title}. {sentence}", "queries", bins, x_step, tooltip))


def _histogram(label: str, x_label: str, bins: Bins, x_step: float, tooltip: Callable[[int], str]) -> str:
    beyond = f" ({bins.beyond:,} beyond the axis)" if bins.beyond else ""
    return bar_chart(
        Bars(
            label=label,
            x_label=x_label + beyond,
            y_label="tasks",
            start=bins.start,
            step=bins.step,
            series=[("good", bins.counts)],
            x_step=x_step,
            tooltip=tooltip,
        )
    )
