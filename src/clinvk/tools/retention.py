"""Removes records of runs that were fetched and are old, or that weigh too much. Unread and running ones stay.

One that was cancelled before its id was handed out counts as fetched: its caller called it off, or left.
A run that a client polls as a task stays as long as the client was told (`ttlMs`).
"""

import os
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass

from clinvk.config.settings import LimitsConfig
from clinvk.errors import ClinvkError
from clinvk.executor.finished import browsing, forget
from clinvk.executor.runs import RunState
from clinvk.tools.app import App
from clinvk.tools.settle import settled

DAY = 86_400.0
TASK_DAYS = 7  # for which a run that a client polls as a task stays, whatever all runs weigh


@dataclass(frozen=True, slots=True)
class Kept:
    """A finished run that may be removed, with its children."""

    created_at: float
    run_id: str
    children: tuple[str, ...]


def clean_runs(app: App, limits: LimitsConfig, now: float | None = None) -> list[str]:
    """Remove what retention does not keep; the ids of the removed runs, children included."""
    now = now or time.time()
    oldest = now - limits.run_retention_days * DAY if limits.run_retention_days else 0.0
    candidates, listed = _candidates(app)
    sizes = {run_id: _size(str(app.runs.path(run_id))) for run_id in app.runs.ids()} if _weighs(limits) else {}
    total = sum(sizes.values())
    removed: list[str] = []
    for run in sorted(candidates, key=lambda run: run.created_at):
        too_much = total > limits.run_retention_bytes > 0
        if run.created_at < oldest or (too_much and not _is_promised(app, run, now)):
            listed.subtract(run.children)
            # a child that another run took over goes with the last of them
            for run_id in (run.run_id, *(child for child in run.children if listed[child] <= 0)):
                app.runs.delete(run_id)
                removed.append(run_id)
                total -= sizes.get(run_id, 0)
    forget(app.runs, removed)
    app.runs.remove_left_behind()
    app.requests.forget_removed(app.runs)
    return removed


def task_secs(limits: LimitsConfig) -> float | None:
    """How long, from its beginning, a run marked as a task is sure to stay; None for ever."""
    days = [limits.run_retention_days] if limits.run_retention_days else []
    if limits.run_retention_bytes:
        days.append(TASK_DAYS)
    return min(days) * DAY if days else None


def _is_promised(app: App, run: Kept, now: float) -> bool:
    """Whether a client was told that the run stays, and the time has not passed."""
    return now < run.created_at + TASK_DAYS * DAY and app.runs.marked(run.run_id, "task")


def clean(app: App) -> tuple[list[str], list[str]]:
    """Apply the configured retention; the ids of removed runs and sessions."""
    days = app.config.session.retention_days
    return clean_runs(app, app.config.limits), app.sessions.clean(days) if days else []


def _weighs(limits: LimitsConfig) -> bool:
    return limits.run_retention_bytes > 0


def _candidates(app: App) -> tuple[list[Kept], Counter[str]]:
    """What may be removed, and how many runs have a run as their child."""
    found: list[Kept] = []
    listed: Counter[str] = Counter()
    children: list[RunState] = []
    for run_id, state in _states(app).items():
        if state.record.parent_id is not None:
            children.append(state)
            continue
        own = () if state.record.kind == "prompt" else tuple(app.runs.children(run_id))
        listed.update(own)
        if state.status != "running" and not (state.unread and _may_be_fetched(app, state)):
            found.append(Kept(state.record.created_at, run_id, own))
    # no run shows a child whose driver was killed before it could note it
    found += [
        Kept(child.record.created_at, child.record.id, ())
        for child in children
        if not listed[child.record.id] and child.status != "running" and not _has_parent(app, child)
    ]
    return found, listed


def _states(app: App) -> dict[str, RunState]:
    states: dict[str, RunState] = {}
    with browsing(app.runs) as ids:
        for run_id in ids:
            with suppress(ClinvkError):  # damaged: kept for whoever looks into it
                states[run_id] = settled(app, run_id, listed=True)
    return states


def _may_be_fetched(app: App, state: RunState) -> bool:
    return state.status != "cancelled" or app.runs.marked(state.record.id, "handed")


def _has_parent(app: App, child: RunState) -> bool:
    return app.runs.is_recorded(child.record.parent_id or "")


def _size(folder: str) -> int:
    total = 0
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                is_folder = entry.is_dir(follow_symlinks=False)
                total += _size(entry.path) if is_folder else entry.stat(follow_symlinks=False).st_size
    except OSError:
        return total  # removed meanwhile
    return total
