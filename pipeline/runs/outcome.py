"""How a pipeline run stands, from how its stages stand.

    of its stages                       the run
    one is RUNNING                      RUNNING
    else, one has FAILED                FAILED
    else, one was KILLED                KILLED
    all FINISHED, more are to come      RUNNING
    all FINISHED                        FINISHED

More are to come as long as the DVC command that started the stages runs and has not reached its
goals. A stage that is run again counts as it stands now.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from pipeline.runs.records import Status


def status_of(stages: Mapping[str, Status], goals: Collection[str], is_alive: bool) -> Status:
    """Say how a run with these stages stands.

    Args:
        stages: the status of every stage so far.
        goals: the stages with which the run is complete.
        is_alive: whether the command that starts the stages still runs.
    """
    found = set(stages.values())
    for status in ("RUNNING", "FAILED", "KILLED"):
        if status in found:
            return status
    is_complete = all(stages.get(goal) == "FINISHED" for goal in goals)
    return "RUNNING" if is_alive and not is_complete else "FINISHED"
