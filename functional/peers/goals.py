"""What the project asks of itself beside its peers."""

from collections.abc import Sequence
from dataclasses import dataclass

from functional.peers import notifications
from gateway.bench.command import CEILING
from gateway.bench.report import compare, table
from gateway.bench.rounds import Result
from gateway.bench.stats import Spread

#: Names of servers in several parts.
HYBRID, EMBEDDED, ZAQAR, MANAGEMENT = "gateway", "embedded", "zaqar", "management"

#: Messages in, and in and out.
THROUGH = ("post-1", "post-20", "pop-1", "pop-20")


@dataclass(frozen=True)
class Goal:
    """A ratio to reach: a minimum of ``rate`` (requests) or ``message_rate``, or a maximum of ``cpu_per_request`` or
    ``total_cpu_per_message``, which is also that of broker and side-store.
    """

    work: str
    ours: str
    theirs: str
    what: str
    wanted: float

    def met(self, found: Spread) -> bool:
        """By the median of the rounds."""
        return found.median <= self.wanted if self.is_most else found.median >= self.wanted

    @property
    def is_most(self) -> bool:
        """Is less better?"""
        return self.what in ("cpu_per_request", "total_cpu_per_message")


GOALS = (
    Goal("post-1", HYBRID, ZAQAR, "rate", 5),
    Goal("post-1", HYBRID, ZAQAR, "cpu_per_request", 0.25),
    Goal("post-20", HYBRID, ZAQAR, "rate", 4),
    Goal("list-20", HYBRID, ZAQAR, "rate", 7),
    # In messages, as Zaqar answers a part of its claims with nothing.
    Goal("cycle-1", HYBRID, ZAQAR, "message_rate", 2.8),
    Goal("cycle-1x16", HYBRID, ZAQAR, "message_rate", 3.5),
    Goal("cycle-20", HYBRID, ZAQAR, "message_rate", 2.3),
    Goal("cycle-20x16", HYBRID, ZAQAR, "message_rate", 2.7),
    Goal("cycle-20x16", HYBRID, ZAQAR, "total_cpu_per_message", 0.42),
    Goal("post-1", HYBRID, CEILING, "rate", 0.75),
    Goal("list-20", HYBRID, CEILING, "rate", 0.5),
    Goal("post-1", EMBEDDED, ZAQAR, "rate", 3),
    Goal("cycle-1", EMBEDDED, ZAQAR, "rate", 3),
    *(Goal(work, HYBRID, MANAGEMENT, "message_rate", 1) for work in THROUGH),
    *(
        Goal(f"notify-{crowd}", notifications.NOTIFY, notifications.ZAQAR, "message_rate", 5)
        for crowd in notifications.CROWDS
    ),
    Goal("post-1", notifications.FORMER, notifications.NEVER, "rate", 0.97),
    Goal("post-1", notifications.TEN, notifications.NEVER, "rate", 0.5),
)

#: What the ratios are called in the table.
RATIOS = {
    "rate": "req/s", "message_rate": "msg/s", "cpu_per_request": "CPU/req", "total_cpu_per_message": "CPU of all/msg",
}


def goals_table(results: Sequence[Result]) -> str:
    """Each goal that was measured, and whether it was met; empty if none was."""
    rows = []
    for goal in GOALS:
        for result in results:
            if result.workload.name == goal.work and {goal.ours, goal.theirs} <= set(result.turns):
                found = getattr(compare(result, goal.ours, goal.theirs), goal.what)
                sign = "≤" if goal.is_most else "≥"
                rows.append((
                    goal.work, f"{goal.ours} / {goal.theirs}", RATIOS[goal.what], f"{sign} {goal.wanted:g}×",
                    *((f"{found.median:.2f}×", f"{found.low:.2f}–{found.high:.2f}", "yes" if goal.met(found) else "no")
                      if found else ("–", "–", "no")),
                ))
    if not rows:
        return ""
    return table(("work", "servers", "of", "wanted", "measured", "low–high", "met"), rows)
