"""How a batch went, drawn: throughput, durations, lags, queries a task, and rejections (429)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ._bar_chart import Bars, bar_chart, plain_number
from ._folder import Entry, Folder
from ._markup import text
from ._statistics import Bins, counted, histogram, nice_step, quantile, time_step

__all__ = ("plots",)

_UNITS = ((7200.0, 3600.0, "hours"), (180.0, 60.0, "minutes"), (0.0, 1.0, "seconds"))


def plots(folder: Folder) -> str:
    """Return the figures of *folder*, each with a sentence about it; empty ones come last."""
    figures = (
        _throughput(folder),
        _throttled(folder),
        _spread(
            "How long it took",
            [entry.seconds for entry in folder.entries],
            "seconds from being accepted to the end",
            "No task that ended has a known duration.",
        ),
        _spread(
            "How late its end was seen",
            [entry.lag for entry in folder.entries],
            "seconds from the end to when it was seen",
            "The service did not say when its tasks ended, so nobody can tell.",
        ),
        _queries(folder.entries),
    )
    return "\n".join(sorted(figures, key=lambda figure: "<svg" not in figure))


def _figure(title: str, sentence: str, drawing: str = "") -> str:
    return f"<figure><figcaption><h3>{text(title)}</h3><p>{text(sentence)}</p></figcaption>{drawing}</figure>"


def _span(folder: Folder) -> tuple[float, float] | None:
    """Return the instants between which everything happened."""
    ends = [entry.finished_at for entry in folder.entries if entry.finished_at is not None]
    if not ends:
        return None
    begins = [entry.submitted_at for entry in folder.entries if entry.submitted_at is not None]
    start = min([*ends, *begins, *(run.started_at for run in folder.runs)])
    return start, max([*ends, *(run.ended_at for run in folder.runs if run.ended_at is not None)])


def _unit(seconds: float) -> tuple[float, str]:
    return next((scale, name) for least, scale, name in _UNITS if seconds >= least)


def _throughput(folder: Folder) -> str:
    title, span = "Results over time", _span(folder)
    if span is None:
        return _figure(title, "Nothing ended yet.")
    start, end = span
    step = time_step(max(end - start, 1.0), 50)
    number = int((end - start) // step) + 1
    good, bad = (
        counted(_since(folder.entries, start, made=made), 0.0, step, number).counts for made in (True, False)
    )
    per, word = (1.0, "second") if len(folder.entries) >= (end - start) else (60.0, "minute")
    scale, unit = _unit(number * step)
    rate = sum(good) / max(end - start, 1e-3) * per
    best = plain_number(round(max(good) * per / step, 1))
    sentence = f"{plain_number(round(rate, 1))} made a {word} on the whole, {best} at best."
    bars = Bars(
        label=f"{title}. {sentence}",
        x_label=f"{unit} since the start",
        y_label=f"a {word}",
        start=0.0,
        step=step,
        series=[("good", [n * per / step for n in good]), ("bad", [n * per / step for n in bad])],
        x_step=time_step(number * step, 6),
        x_scale=scale,
        said=lambda place: (
            f"{plain_number(place * step / scale)} to {plain_number((place + 1) * step / scale)} {unit}: "
            f"{good[place]:,} made, {bad[place]:,} not"
        ),
    )
    legend = _legend(("good", "made"), ("bad", "not made")) if any(bad) else ""
    return _figure(title, sentence, legend + bar_chart(bars))


def _since(entries: Sequence[Entry], start: float, *, made: bool) -> list[float]:
    return [
        max(0.0, entry.finished_at - start)
        for entry in entries
        if entry.finished_at is not None and (entry.state == "succeeded") is made
    ]


def _throttled(folder: Folder) -> str:
    title, span = "Refused for the rate (429)", _span(folder)
    if not folder.runs or span is None:
        return _figure(title, "Not recorded: the run was killed before it could write it down.")
    start, end = span
    total = Counter({scope: sum(counts) for run in folder.runs for scope, counts in run.throttled.items()})
    if not total.total():
        return _figure(title, "Never: every request was let in at once.")
    step = time_step(max(end - start, 1.0), 50)
    number = int((end - start) // step) + 1
    series = {scope: [0] * number for scope in ("create", "query")}
    for run in folder.runs:
        for scope, counts in run.throttled.items():
            for place, count in enumerate(counts):
                at = int(max(0.0, run.started_at - start + place * run.step) // step)
                series.setdefault(scope, [0] * number)[min(at, number - 1)] += count
    scale, unit = _unit(number * step)
    rejected = f"{total['create']:,} creates and {total['query']:,} queries were told to wait"
    sentence = f"{rejected}; that costs time, and no credits."
    bars = Bars(
        label=f"{title}. {sentence}",
        x_label=f"{unit} since the start",
        y_label=f"refusals in {plain_number(step)} s",
        start=0.0,
        step=step,
        series=[("warn", series["create"]), ("calm", series["query"])],
        x_step=time_step(number * step, 6),
        x_scale=scale,
        said=lambda place: (
            f"{plain_number(place * step / scale)} {unit}: {series['create'][place]:,} creates, "
            f"{series['query'][place]:,} queries"
        ),
    )
    return _figure(title, sentence, _legend(("warn", "creates"), ("calm", "queries")) + bar_chart(bars))


def _legend(*entries: tuple[str, str]) -> str:
    items = "".join(f'<li><i class="swatch {colour}"></i>{text(name)}</li>' for colour, name in entries)
    return f'<ul class="legend">{items}</ul>'


def _spread(title: str, values: Sequence[float | None], x_label: str, nothing: str) -> str:
    known = sorted(value for value in values if value is not None)
    if not known:
        return _figure(title, nothing)
    bins = histogram(known)
    half, most, longest = (_seconds(quantile(known, share)) for share in (0.5, 0.95, 1.0))
    sentence = f"Half: at most {half}; 95 of 100: at most {most}; the longest: {longest}."
    return _figure(title, sentence, _histogram(f"{title}. {sentence}", x_label, bins, "s"))


def _seconds(value: float) -> str:
    return f"{plain_number(float(f'{value:.3g}'))}\N{NO-BREAK SPACE}s"


def _histogram(label: str, x_label: str, bins: Bins, unit: str) -> str:
    return bar_chart(
        Bars(
            label=label,
            x_label=x_label + _beyond(bins),
            y_label="tasks",
            start=bins.start,
            step=bins.step,
            series=[("good", bins.counts)],
            x_step=nice_step(bins.end - bins.start, 6),
            said=lambda place: (
                f"{plain_number(bins.start + place * bins.step)} to "
                f"{plain_number(bins.start + (place + 1) * bins.step)} {unit}: {bins.counts[place]:,} tasks"
            ),
        )
    )


def _beyond(bins: Bins) -> str:
    return f" ({bins.beyond:,} {'lies' if bins.beyond == 1 else 'lie'} beyond)" if bins.beyond else ""


def _queries(entries: Sequence[Entry]) -> str:
    title = "How often each was asked for"
    asked = [entry.queries for entry in entries if entry.queries]
    if not asked:
        return _figure(title, "No task was asked for its state.")
    step = max(1.0, nice_step(quantile(sorted(asked), 0.995), 30))
    bins = counted(asked, 0.5, step, int(quantile(sorted(asked), 0.995) / step) + 1)
    mean = plain_number(round(sum(asked) / len(asked), 2))
    sentence = f"{mean} queries a task on average, {max(asked):,} at most."
    return _figure(
        title,
        sentence,
        bar_chart(
            Bars(
                label=f"{title}. {sentence}",
                x_label="queries a task" + _beyond(bins),
                y_label="tasks",
                start=0.5,
                step=step,
                series=[("good", bins.counts)],
                x_step=max(1.0, nice_step(bins.end, 10)),
                said=lambda place: f"{_whole_range(place, step)} queries: {bins.counts[place]:,} tasks",
            )
        ),
    )


def _whole_range(place: int, step: float) -> str:
    first, last = int(place * step) + 1, int((place + 1) * step)
    return f"{first:,}" if first == last else f"{first:,} to {last:,}"
