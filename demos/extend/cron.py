"""A syscall of a user: `yield At("*/5 * * * *")` waits for a wall-clock time.

Shows: the outside world is behind an interface, here a service that reads the clock, so that a test can replace it; a
wait on another clock than the timers checks that clock again before it ends; a wrong expression raises an error when
the syscall is created, and the error names the field.

Theory of operation. An expression has five fields (minute, hour, day of the month, month, day of the week), each a
list of numbers, ranges and steps, as in P. Vixie's cron (1987). If both day fields are restricted, a day needs to
match only one of them. The search for the next time goes day by day, for at most forty years: two 29ths of February on
the same day of the week can be that far apart (`* * 29 2 */7`). A user may set the wall clock, so the service reads it
again at least once a minute, and no wait ends early. Times are local: a time that the change to summer time skips does
not come, and a time that is repeated comes twice.

Run it:    python demos/extend/cron.py
"""

from argparse import ArgumentParser
from datetime import datetime, timedelta

from checked import show

from minisched import Service, Spawn, Syscall, Timers
from minisched.testing import run

MONTHS = {
    "jan": 1, "feb": 2, "mar": 3, "apr": 4, "may": 5, "jun": 6,
    "jul": 7, "aug": 8, "sep": 9, "oct": 10, "nov": 11, "dec": 12,
}  # fmt: skip
WEEKDAYS = {"sun": 0, "mon": 1, "tue": 2, "wed": 3, "thu": 4, "fri": 5, "sat": 6}
FIELDS = (  # name, smallest number, largest number, and words for numbers
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day of the month", 1, 31, {}),
    ("month", 1, 12, MONTHS),
    ("day of the week", 0, 7, WEEKDAYS),
)
MAX_YEARS = 40  # between two Sundays that are a 29th of February, around a year such as 2100
CHECK_SECONDS = 60.0  # between two readings of the wall clock, which a user may set


class Schedule:
    """The times of a cron expression. Raises ValueError for a wrong expression, or one that never comes."""

    def __init__(self, expression):
        parts = expression.split()
        if len(parts) != len(FIELDS):
            raise ValueError(f"{expression!r} has {len(parts)} fields; a cron expression has {len(FIELDS)}")
        self.expression = expression
        sets = [numbers(part, *field) for part, field in zip(parts, FIELDS, strict=True)]
        self.minutes, self.hours, self.days, self.months, weekdays = sets
        self.weekdays = {number % 7 for number in weekdays}  # Sunday is 0 and 7
        self.either_day = not parts[2].startswith("*") and not parts[4].startswith("*")
        if self.first_day(datetime(2000, 1, 1)) is None:
            raise ValueError(f"{expression!r} never comes: there is no such day")

    def next_after(self, moment):
        """Return the first matching minute after `moment`."""
        moment = moment.replace(second=0, microsecond=0) + timedelta(minutes=1)
        if self.matches_day(moment):
            for hour in sorted(self.hours):
                for minute in sorted(self.minutes):
                    if (hour, minute) >= (moment.hour, moment.minute):
                        return moment.replace(hour=hour, minute=minute)
        day = self.first_day(moment.replace(hour=0, minute=0) + timedelta(days=1))
        return day.replace(hour=min(self.hours), minute=min(self.minutes))

    def first_day(self, day):
        """Return the first matching day from `day` on, or None if there is none in MAX_YEARS years."""
        for number in range(MAX_YEARS * 366 + 1):
            if self.matches_day(day + timedelta(days=number)):
                return day + timedelta(days=number)
        return None

    def matches_day(self, day):
        """Return whether a day matches."""
        by_month, by_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return day.month in self.months and (by_month or by_week if self.either_day else by_month and by_week)


def numbers(text, field, low, high, names):
    """Return the set of numbers that match a field."""
    result = set()
    for part in text.split(","):
        span, slash, step_text = part.partition("/")
        if slash and not (step_text.isdecimal() and int(step_text)):
            raise ValueError(f"{field}: {step_text!r} in {text!r} is not a step: use a number of at least 1")
        first, dash, last = span.partition("-")
        if span == "*":
            begin, end = low, high
        else:
            begin = number(first, text, field, low, high, names)
            end = number(last, text, field, low, high, names) if dash else high if slash else begin
        if begin > end:
            raise ValueError(f"{field}: {span!r} in {text!r} goes backwards")
        result.update(range(begin, end + 1, int(step_text) if slash else 1))
    return result


def number(word, text, field, low, high, names):
    """Return the number for a word."""
    result = names.get(word.lower(), int(word) if word.isdecimal() else -1)
    if not low <= result <= high:
        words = f" or one of {', '.join(names)}" if names else ""
        raise ValueError(f"{field}: {word!r} in {text!r} is not a number from {low} to {high}{words}")
    return result


# The service: the wall clock, and the tasks that wait for it.


class WallClock(Service):
    """The wall clock, `read()`, which a test may replace, and the waiting tasks."""

    def __init__(self, kernel):
        super().__init__(kernel)
        self.read = datetime.now
        self.waiting = {}

    def tasks(self):
        return self.waiting


# The syscalls.


class SetClock(Syscall[None]):
    """Let the wall clock follow the timers, starting at `moment`: for tests and demonstrations. Not a checkpoint."""

    __slots__ = ("moment",)
    checkpoint = False

    def __init__(self, moment):
        self.moment = moment

    def handle(self, kernel, task):
        timers = kernel.service(Timers)
        start = timers.now()
        kernel.service(WallClock).read = lambda: self.moment + timedelta(seconds=timers.now() - start)


class At(Syscall[datetime]):
    """Wait for the next matching minute after the current one; return it as a datetime.

    The wait never ends early. It may end up to a minute late if the machine was
    suspended or the clock was set. A cancellation removes the wait.
    """

    __slots__ = ("schedule",)
    external = True

    def __init__(self, expression):
        self.schedule = Schedule(expression)

    def handle(self, kernel, task):
        clock, timers = kernel.service(WallClock), kernel.service(Timers)
        due = self.schedule.next_after(clock.read())

        def check():
            left = (due - clock.read()).total_seconds()
            if left > 0:
                clock.waiting[task] = timers.call_at(timers.now() + min(left, CHECK_SECONDS), check)
            else:
                del clock.waiting[task]
                kernel.resume(task, due)

        kernel.park(task, undo=lambda: clock.waiting.pop(task)())
        check()

    def __repr__(self):
        return f"{type(self).__name__}({self.schedule.expression!r})"


class Remembering(At):
    """Wrong: the syscall stores the last time in itself; another task that yields it misses that time."""

    __slots__ = ("last",)

    def __init__(self, expression):
        super().__init__(expression)
        self.last = datetime.min

    def handle(self, kernel, task):
        clock, timers = kernel.service(WallClock), kernel.service(Timers)
        self.last = self.schedule.next_after(max(self.last, clock.read()))
        seconds = (self.last - clock.read()).total_seconds()
        kernel.park(task, undo=timers.wake_at(timers.now() + seconds, task))


# The demonstration.


def ring(expression, times):
    """Print the next `times` times of an expression."""
    for _ in range(times):
        print(f"  {(yield At(expression)):%a %d %b %H:%M}  {expression}")


def main():
    """Run three schedules over a weekend."""
    yield SetClock(datetime(2027, 1, 1, 17, 55))
    yield Spawn(ring("*/30 18 * * *", 3))
    yield Spawn(ring("0 9 * * mon-fri", 2))
    yield Spawn(ring("0 12 13 * fri", 2))  # every Friday, and every 13th


def called(kind):
    """Return a function that creates a syscall with a wait of at most 15 minutes, on a replaced clock."""

    def make():
        yield SetClock(datetime(2027, 1, 1, 17, 55))
        return kind("*/15 * * * *")

    return make


CHECKED = {"At": called(At), "Remembering": called(Remembering)}

if __name__ == "__main__":
    ArgumentParser(description=__doc__.splitlines()[0]).parse_args()  # for --help
    print("From Friday evening on:")
    run(main())
    show(**CHECKED)
