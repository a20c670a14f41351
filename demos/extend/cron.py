"""A syscall of one's own: `yield At("*/5 * * * *")` waits until the clock on the wall says so.

Shows: the world enters through a seam, here a service that knows how to read the clock, so that a test can set it;
a wait that goes by another clock than the timers is looked at again when it seems to be over; a mistake is an error
when the call is made, with the field that it is in.

Theory of operation. An expression has five fields (minute, hour, day of the month, month, day of the week), each a
list of numbers, ranges and steps, as in P. Vixie's cron (1987): where both kinds of day are restricted, one of them
is enough. The next time is found by days, of which at most forty years' are looked at: that is how far the 29th of
February can be on one day of the week (`* * 29 2 */7`). The clock on the wall may be set: so it is read again once a
minute, and nothing is early. Local time: what the change to summer time leaves out does not come, and what comes
twice comes twice.

Run it:    python demos/extend/cron.py
"""

from datetime import datetime, timedelta

from checked import show

from minisched import Service, Spawn, Syscall, Timers
from minisched.testing import run

MONTHS = {
    "jan": 1, "feb": 2, "mar": 3, "apr": 4, "may": 5, "jun": 6,
    "jul": 7, "aug": 8, "sep": 9, "oct": 10, "nov": 11, "dec": 12,
}  # fmt: skip
WEEKDAYS = {"sun": 0, "mon": 1, "tue": 2, "wed": 3, "thu": 4, "fri": 5, "sat": 6}
FIELDS = (  # name, smallest and largest number, names of numbers
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day of the month", 1, 31, {}),
    ("month", 1, 12, MONTHS),
    ("day of the week", 0, 7, WEEKDAYS),
)
YEARS = 40  # between two 29ths of February that are a Sunday, say, where a century has none
LOOK = 60.0  # seconds after which the clock on the wall is read again: it may have been set


class Schedule:
    """The times that a cron expression means. Raises ValueError for what is none, or never comes."""

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
        """Return the first minute after `moment` that is meant."""
        moment = moment.replace(second=0, microsecond=0) + timedelta(minutes=1)
        if self.means_day(moment):
            for hour in sorted(self.hours):
                for minute in sorted(self.minutes):
                    if (hour, minute) >= (moment.hour, moment.minute):
                        return moment.replace(hour=hour, minute=minute)
        day = self.first_day(moment.replace(hour=0, minute=0) + timedelta(days=1))
        return day.replace(hour=min(self.hours), minute=min(self.minutes))

    def first_day(self, day):
        """Return the first day from `day` on that is meant, None if none is in so many years."""
        for number in range(YEARS * 366 + 1):
            if self.means_day(day + timedelta(days=number)):
                return day + timedelta(days=number)
        return None

    def means_day(self, day):
        """Return whether a day is meant."""
        by_month, by_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return day.month in self.months and (by_month or by_week if self.either_day else by_month and by_week)


def numbers(text, field, low, high, names):
    """Return the set of numbers that a field means."""
    found = set()
    for part in text.split(","):
        span, slash, step_text = part.partition("/")
        if slash and not (step_text.isdecimal() and int(step_text)):
            raise ValueError(f"{field}: {step_text!r} in {text!r} is no step: it takes a number from 1 on")
        first, dash, last = span.partition("-")
        if span == "*":
            begin, end = low, high
        else:
            begin = number(first, text, field, low, high, names)
            end = number(last, text, field, low, high, names) if dash else high if slash else begin
        if begin > end:
            raise ValueError(f"{field}: {span!r} in {text!r} goes backwards")
        found.update(range(begin, end + 1, int(step_text) if slash else 1))
    return found


def number(word, text, field, low, high, names):
    """Return the number that a word means."""
    found = names.get(word.lower(), int(word) if word.isdecimal() else -1)
    if not low <= found <= high:
        known = f" or one of {', '.join(names)}" if names else ""
        raise ValueError(f"{field}: {word!r} in {text!r} is no number from {low} to {high}{known}")
    return found


# The service: the clock on the wall, and who waits for it.


class WallClock(Service):
    """What time it is: `read()`, which may be replaced."""

    def __init__(self, kernel):
        super().__init__(kernel)
        self.read = datetime.now
        self.waiting = {}

    def tasks(self):
        return self.waiting


# The syscalls.


class SetClock(Syscall[None]):
    """Let the clock on the wall go by the timers, from this moment on: for tests, and to see what would happen."""

    __slots__ = ("moment",)
    checkpoint = False

    def __init__(self, moment):
        self.moment = moment

    def handle(self, kernel, task):
        timers = kernel.service(Timers)
        start = timers.now()
        kernel.service(WallClock).read = lambda: self.moment + timedelta(seconds=timers.now() - start)


class At(Syscall[datetime]):
    """Wait for the next minute that a cron expression means, but not this one; return it.

    Never early; late if the machine slept, or the clock was set beyond it: then by
    a minute at most. Cancelled while parked: nothing is left.
    """

    __slots__ = ("schedule",)
    world = True

    def __init__(self, expression):
        self.schedule = Schedule(expression)

    def handle(self, kernel, task):
        clock, timers = kernel.service(WallClock), kernel.service(Timers)
        due = self.schedule.next_after(clock.read())

        def look():
            left = (due - clock.read()).total_seconds()
            if left > 0:
                clock.waiting[task] = timers.call_at(timers.now() + min(left, LOOK), look)
            else:
                del clock.waiting[task]
                kernel.resume(task, due)

        kernel.park(task, undo=lambda: clock.waiting.pop(task)())
        look()

    def __repr__(self):
        return f"{type(self).__name__}({self.schedule.expression!r})"


class Remembering(At):
    """Wrong: the call remembers when it last came, and so changes; another task that yields it misses that time."""

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
    """Say when an expression comes, so many times."""
    for _ in range(times):
        print(f"  {(yield At(expression)):%a %d %b %H:%M}  {expression}")


def main():
    """A weekend goes by."""
    yield SetClock(datetime(2027, 1, 1, 17, 55))
    yield Spawn(ring("*/30 18 * * *", 3))
    yield Spawn(ring("0 9 * * mon-fri", 2))
    yield Spawn(ring("0 12 13 * fri", 2))  # each Friday, and each 13th


def called(kind):
    """Return what makes a call: in a quarter of an hour at most, by a clock that the timers drive."""

    def make():
        yield SetClock(datetime(2027, 1, 1, 17, 55))
        return kind("*/15 * * * *")

    return make


CHECKED = {"At": called(At), "Remembering": called(Remembering)}

if __name__ == "__main__":
    print("From Friday evening on:")
    run(main())
    show(**CHECKED)
