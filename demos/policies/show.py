"""Output of a comparison: a table, a chart of the processor over time, and a plot.

Shows: the usual figures for the comparison of policies.

Run it:    python -m demos.policies [--plot FILE]
"""

from statistics import mean

from .machine import IDLE

COLUMNS = {"response": 13, "turnaround": 13, "waiting": 13, "switches": 10, "Jain": 10, "late": 10}  # and their widths
CHART_UNITS = 68  # of time, in a line of the chart


def table(outcomes):
    """Return the lines of a table: for each policy the mean and the maximum over its jobs."""
    lines = [f"{'':<10}" + "".join(f"{name:>{width}}" for name, width in COLUMNS.items())]
    for policy, outcome in outcomes.items():
        cells = []
        for figure in (outcome.response, outcome.turnaround, outcome.waiting):
            values = [figure(name) for name in outcome.jobs]
            cells.append(f"{mean(values):.1f} ({max(values)})")
        cells += [str(outcome.switches()), f"{outcome.fairness():.2f}", str(outcome.late())]
        widths = COLUMNS.values()
        row = "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
        lines.append(f"{policy:<10}" + row)
    notes = [
        "Means, and maxima in brackets, in units of time.",
        "Jain: fairness; 1 if all jobs get the same per ticket, 1/n if one gets all.",
        "late: the number of jobs that missed their deadline.",
    ]
    return [*lines, *notes]


def details(outcome):
    """Return the lines of a table: the figures of each job."""
    columns = ("arrival", "work", "I/O", "response", "turnaround", "waiting", "end")
    lines = [f"{'':<10}" + "".join(f" {name:>9}" for name in columns)]
    for name, job in outcome.jobs.items():
        cells = (job.arrival, job.work, job.io, outcome.response(name), outcome.turnaround(name))
        cells = (*cells, outcome.waiting(name), outcome.ended[name])
        lines.append(
            f"{name:<10}"
            + "".join(f" {cell:>{max(9, len(column))}}" for column, cell in zip(columns, cells, strict=True))
        )
    return lines


def chart(outcome, width=CHART_UNITS):
    """Return the lines of a chart: a row for each job, a column for each unit of time."""
    lines = []
    for begin in range(0, len(outcome.chart), width):
        part = outcome.chart[begin : begin + width]
        lines.append(f"{'':<10} {begin}")
        for name in outcome.jobs:
            row = "".join("#" if running == name else " " for running in part)
            if row.strip():
                lines.append(f"{name:<10}|{row}|")
    return lines


def plot(outcomes, file):
    """Draw the charts of all policies into a .svg or .png file. Needs matplotlib."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    matplotlib.rcParams["svg.hashsalt"] = "minisched"  # makes the output reproducible
    height = 0.9 + 0.28 * len(next(iter(outcomes.values())).jobs)
    figure, axes = pyplot.subplots(
        len(outcomes), 1, figsize=(9, height * len(outcomes)), squeeze=False, sharex=True, layout="constrained"
    )
    for axis, (policy, outcome) in zip(axes[:, 0], outcomes.items(), strict=True):
        names = list(outcome.jobs)
        for row, name in enumerate(names):
            spans = [(time, 1) for time, running in enumerate(outcome.chart) if running == name]
            axis.broken_barh(spans, (row - 0.4, 0.8), color=f"C{row % 10}")
        axis.set_yticks(range(len(names)), names, fontsize="x-small")
        axis.set_ylim(len(names) - 0.5, -0.5)
        worst = max(outcome.response(name) for name in names)
        axis.set_title(f"{policy}: worst response {worst}, {outcome.switches()} switches", loc="left", fontsize="small")
    axes[-1, 0].set_xlabel("units of time")
    figure.savefig(file, metadata={"Date": None} if str(file).endswith(".svg") else {})
    pyplot.close(figure)


def order(outcome):
    """Return the running jobs, unit by unit, in one line."""
    return " ".join(name if name != IDLE else "-" for name in outcome.chart)
