"""What is shown of a run: a table, a chart of who ran when, and a plot.

Shows: the figures by which policies are judged, beside each other.

Run it:    python -m demos.policies [--plot FILE]
"""

from statistics import mean

from .machine import IDLE

COLUMNS = ("response", "turnaround", "waiting", "switches", "Jain", "late")
WIDE = 100  # units of time in a line of the chart


def table(outcomes):
    """Return the lines of a table: for each policy the mean and the worst of its jobs."""
    lines = [f"{'':<10}" + "".join(f"{name:>14}" for name in COLUMNS)]
    for policy, outcome in outcomes.items():
        cells = []
        for figure in (outcome.response, outcome.turnaround, outcome.waiting):
            values = [figure(name) for name in outcome.jobs]
            cells.append(f"{mean(values):.1f} ({max(values)})")
        cells += [str(outcome.switches()), f"{outcome.fairness():.2f}", str(outcome.late())]
        lines.append(f"{policy:<10}" + "".join(f"{cell:>14}" for cell in cells))
    return [*lines, "The mean, and the worst in brackets, in units of time; late: jobs that missed their deadline."]


def details(outcome):
    """Return the lines of a table: what became of each job."""
    lines = [f"{'':<10}" + "".join(f"{name:>14}" for name in ("arrival", "work", "I/O", *COLUMNS[:3], "end"))]
    for name, job in outcome.jobs.items():
        cells = (job.arrival, job.work, job.io, outcome.response(name), outcome.turnaround(name))
        cells = (*cells, outcome.waiting(name), outcome.ended[name])
        lines.append(f"{name:<10}" + "".join(f"{cell:>14}" for cell in cells))
    return lines


def chart(outcome, most=WIDE):
    """Return the lines of a chart: a row for each job, a column for each unit of time."""
    lines = []
    for begin in range(0, len(outcome.chart), most):
        part = outcome.chart[begin : begin + most]
        lines.append(f"{'':<10} {begin}")
        for name in outcome.jobs:
            row = "".join("#" if ran == name else " " for ran in part)
            if row.strip():
                lines.append(f"{name:<10}|{row}|")
    return lines


def plot(outcomes, file):
    """Draw a chart for each policy, one above the other, as .svg or .png. Needs matplotlib."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    matplotlib.rcParams["svg.hashsalt"] = "minisched"  # the same picture from the same run
    height = 0.9 + 0.28 * len(next(iter(outcomes.values())).jobs)
    figure, axes = pyplot.subplots(
        len(outcomes), 1, figsize=(9, height * len(outcomes)), squeeze=False, sharex=True, layout="constrained"
    )
    for axis, (policy, outcome) in zip(axes[:, 0], outcomes.items(), strict=True):
        names = list(outcome.jobs)
        for place, name in enumerate(names):
            spans = [(time, 1) for time, ran in enumerate(outcome.chart) if ran == name]
            axis.broken_barh(spans, (place - 0.4, 0.8), color=f"C{place % 10}")
        axis.set_yticks(range(len(names)), names, fontsize="x-small")
        axis.set_ylim(len(names) - 0.5, -0.5)
        worst = max(outcome.response(name) for name in names)
        axis.set_title(f"{policy}: worst response {worst}, {outcome.switches()} switches", loc="left", fontsize="small")
    axes[-1, 0].set_xlabel("units of time")
    figure.savefig(file, metadata={"Date": None} if str(file).endswith(".svg") else {})
    pyplot.close(figure)


def order(outcome):
    """Return who ran, unit by unit, in one line."""
    return " ".join(name if name != IDLE else "-" for name in outcome.chart)
