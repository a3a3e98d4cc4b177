"""machines: one sending process for many machines, with real PostgreSQL and Redis servers.

*One sending process* buys by key, `generate(request, run=)`, from the emulator: with no journal (without
*run*), with `SqliteJournal`, with `PostgresJournal`, and for another process that asks through taskiq.
Tasks take 0.5 s. Goodput is the share of a configured limit of 50/s with a burst of 10. Tasks a second are
those without a limit, for 500 callers. CPU is that of the sending process. Latency is measured at 20 calls
a second: from the call to the arrival of the create ("to create"), and from the arrival of the query that
finds the end to the return of the call ("back"). "Added" is the sum, call by call: the client, the journal
and taskiq, without the task and without the time until its end is polled. Targets: 50 % below 15 ms, 99 %
below 60 ms, 300 tasks/s.

*Submitters* are processes that ask one taskiq worker, each for keys of which a neighbour asks for the same
half. The emulator has no limit, so "most in 1 s" is what the configured limit of the client lets through.

*Handover*: the sending process gets SIGKILL or SIGTERM (with taskiq, all its processes) under a demand of
50/s, while another stands by on a lease of 2 s. The figure is the time from the signal to the end of the
longest pause of creates. *Takeover*: the process has 100,000 accepted rows to take over. *Away*: PostgreSQL
is killed and starts 30 s later. "Sent meanwhile" counts creates from 0.25 s after the kill on; full speed
is the first second with 95 % of the limit.

Not measured: distance and TLS between the machines. All processes share the cores of this machine, so the
number of tasks a second is a lower bound. PostgreSQL syncs to the disk of this machine.
"""

from __future__ import annotations

from benchmarks._figures import Row
from benchmarks._harness import Options
from benchmarks._machines_parts import missing, servers

__all__ = ("run",)


def run(options: Options) -> list[Row]:
    """Measure all three parts, or say what is missing."""
    if lack := missing():
        return [{"not measured": lack}]
    from benchmarks._machines_failover import failover_rows
    from benchmarks._machines_senders import sender_rows, submitter_rows

    with servers() as running:
        return [
            *sender_rows(running, options),
            *submitter_rows(running, options),
            *failover_rows(running, options),
        ]
