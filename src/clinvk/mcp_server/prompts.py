"""Prompts for what people ask for most: a review, a plan that another agent implements, a second opinion."""

from typing import Annotated, Any

from mcp.server import MCPServer
from pydantic import Field

Workdir = Annotated[str, Field(description="absolute path of the project; empty: where the server works")]


def add(server: MCPServer[Any]) -> None:
    """Register the prompts."""
    server.prompt(title="Review by several agents")(review)
    server.prompt(title="Plan, then implement")(plan_and_implement)
    server.prompt(title="Second opinion")(second_opinion)


async def review(
    target: Annotated[str, Field(description="what to review: files, a diff, a branch, a text")],
    backends: Annotated[str, Field(description="backends separated by commas; empty: all available")] = "",
    focus: Annotated[str, Field(description="what to look for")] = "",
    workdir: Workdir = "",
) -> str:
    """Several agents review the same thing independently; the findings are merged and checked."""
    who = backends or "the available backends (see `backends`)"
    return f"""\
Review: {target}
Look for: {focus or "bugs, risks and what is missing"}

1. Call `parallel` with one task for each of: {who}. Give every task `sandbox_mode: "read-only"`{_in(workdir)} and the \
same prompt: what to review, what to look for, and to answer with a list of findings, each with file, line, severity \
and the reason.
2. If the call answers `status: "running"`, wait with `runs` (action `wait`).
3. Merge the findings. Check each against the code yourself; say which agents reported it and whether it holds. Drop \
what does not hold.
4. Report the confirmed findings, the most severe first.
"""


async def plan_and_implement(
    task: Annotated[str, Field(description="what is to be done")],
    planner: Annotated[str, Field(description="backend that plans and reviews")] = "claude",
    implementer: Annotated[str, Field(description="backend that implements")] = "codex",
    workdir: Workdir = "",
) -> str:
    """One agent plans without changing anything, another implements the plan, the first reviews the result."""
    return f"""\
Task: {task}

Call `chain` with three steps{_in(workdir)}:
1. name `plan`, backend `{planner}`, `sandbox_mode: "read-only"`: read the code and write a plan for the task: files, \
steps, how to verify.
2. name `implement`, backend `{implementer}`, `sandbox_mode: "workspace"`, `approval_mode: "auto"`: implement this \
plan and verify it: {{{{steps.plan}}}}
3. name `review`, backend `{planner}`, `sandbox_mode: "read-only"`: compare the changes in the working directory with \
the plan {{{{steps.plan}}}} and the report {{{{previous}}}}; list what is missing or wrong.

Show me the plan, what was changed, and the review. Look at the changes yourself before you say that it is done. If \
the review found faults, continue the implementer's session (`prompt` with its `session_id`).
"""


async def second_opinion(
    question: Annotated[str, Field(description="the question, or the claim or plan to check")],
    backend: Annotated[str, Field(description="backend to ask; empty: one other than yourself")] = "",
    model: Annotated[str, Field(description="model to ask; empty: the backend's default")] = "",
    workdir: Workdir = "",
) -> str:
    """Another agent answers independently, then the answers are compared."""
    who = f"`backend: {backend}`" if backend else "a backend other than the one you run on"
    if model:
        who += f", `model: {model}`"
    return f"""\
{question}

1. Form your own answer first, but keep it out of the next step.
2. Call `prompt` with {who}{_in(workdir)} and `sandbox_mode: "read-only"`. Give it the question and the facts it needs.
3. Compare: where do you agree, where not, and who is right on what evidence? Ask back in the same session if a \
difference can be settled. Then answer me, naming what remains open.
"""


def _in(workdir: str) -> str:
    return f", `workdir: {workdir}`" if workdir else ""
