"""Removes records of runs that were fetched and are old, or that weigh too much. Unread and running ones stay.

A run that a client polls as a task stays as long as the client was told (`ttlMs`).
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from clinvk.config.settings import LimitsConfig
from clinvk.errors import ClinvkError
from clinvk.tools.app import App
from clinvk.tools.settle import settled

DAY = 86_400.0
TASK_DAYS = 7  # for which a run that a client polls as a task stays, whatever all runs weigh


@dataclass(frozen=True, slots=True)
class Kept:
    """A finished, fetched run that may be removed, with its children."""

    created_at: float
    run_ids: tuple[str, ...]
    size: int


def clean_runs(app: App, limits: LimitsConfig, now: float | None = None) -> list[str]:
    """Remove what retention does not keep; the ids of the removed runs, children included."""
    removed: list[str] = []
    candidates = sorted(_candidates(app), key=lambda run: run.created_at)
    total = _size(app.runs.folder)
    moment = now or time.time()
    oldest = moment - limits.run_retention_days * DAY if limits.run_retention_days else 0.0
    for run in candidates:
        too_old = run.created_at < oldest
        too_much = limits.run_retention_bytes and total > limits.run_retention_bytes
        if too_old or (too_much and not _is_promised(app, run, moment)):
            for run_id in run.run_ids:
                app.runs.delete(run_id)
                removed.append(run_id)
            total -= run.size
    return removed


def task_secs(limits: LimitsConfig) -> float | None:
    """How long, from its beginning, a run marked as a task is sure to stay; None for ever."""
    days = [limits.run_retention_days] if limits.run_retention_days else []
    if limits.run_retention_bytes:
        days.append(TASK_DAYS)
    return min(days) * DAY if days else None


def _is_promised(app: App, run: Kept, now: float) -> bool:
    """Whether a client was told that the run stays, and the time has not passed."""
    return now < run.created_at + TASK_DAYS * DAY and app.runs.marked(run.run_ids[0], "task")


def clean(app: App) -> tuple[list[str], list[str]]:
    """Apply the configured retention; the ids of removed runs and sessions."""
    days = app.config.session.retention_days
    return clean_runs(app, app.config.limits), app.sessions.clean(days) if days else []


def _candidates(app: App) -> list[Kept]:
    found: list[Kept] = []
    for run_id in app.runs.ids():
        try:
            state = settled(app, run_id)
        except ClinvkError:
            continue  # damaged: kept for whoever looks into it
        if state.record.parent_id is not None or state.unread or state.status == "running":
            continue
        family = (run_id, *app.runs.children(run_id))
        found.append(Kept(state.record.created_at, family, sum(_size(app.runs.path(member)) for member in family)))
    return found


def _size(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(parent) / name).stat().st_size
            except OSError:
                continue  # removed meanwhile
    return total
