"""A session as one text that people and programs can read."""

import json
from collections.abc import Iterable
from typing import Literal, get_args

from clinvk.errors import ClinvkError
from clinvk.sessions.model import Session, TurnRecord

ExportFormat = Literal["markdown", "json"]
EXPORT_FORMATS: tuple[ExportFormat, ...] = get_args(ExportFormat)


def exported(head: Session, turns: Iterable[TurnRecord], format_: str) -> str:
    """The session in `format_`. Raises `invalid_request` for another format."""
    match format_:
        case "markdown":
            return _markdown(head, turns)
        case "json":
            return _json(head, turns)
        case _:
            raise ClinvkError(
                "invalid_request",
                f"cannot export as {format_!r}",
                hint=f"accepted: {', '.join(EXPORT_FORMATS)}",
                details={"field": "format", "value": format_},
            )


def _json(head: Session, turns: Iterable[TurnRecord]) -> str:
    whole = {"session": head.model_dump(), "turns": [turn.model_dump(exclude={"update"}) for turn in turns]}
    return json.dumps(whole, ensure_ascii=False, indent=2) + "\n"


def _markdown(head: Session, turns: Iterable[TurnRecord]) -> str:
    facts = {
        "Session": head.id,
        "Backend": head.backend,
        "Model": head.model,
        "Folder": head.working_dir,
        "Started": head.created_at,
        "Last used": head.last_used,
        "Turns": head.turn_count,
        "Tokens": _tokens(head),
        "Cost": None if head.cost_usd is None else f"${head.cost_usd:.4f}",
        "Tags": ", ".join(head.tags) or None,
        "Forked from": head.parent_id,
    }
    parts = [f"# {head.title or head.id}", "\n".join(f"- {k}: {v}" for k, v in facts.items() if v is not None)]
    for turn in turns:
        about = [turn.ended_at, turn.backend, turn.model, None if turn.status == "completed" else turn.status]
        parts.append(f"## Turn {turn.number} ({', '.join(part for part in about if part)})")
        parts.append("\n".join(f"> {line}".rstrip() for line in turn.prompt.splitlines()) or ">")
        if turn.output:
            parts.append(turn.output)
        if turn.error:
            parts.append(f"**{turn.error.code}**: {turn.error.message}")
    return "\n\n".join(parts) + "\n"


def _tokens(head: Session) -> str | None:
    usage = head.token_usage
    if usage.input_tokens is None and usage.output_tokens is None:
        return None
    shown = ["?" if count is None else str(count) for count in (usage.input_tokens, usage.output_tokens)]
    return f"{shown[0]} in, {shown[1]} out"
