"""What is said about results beside the answers, and the exit codes that follow from them."""

from collections.abc import Iterable

from clinvk.cli import exits
from clinvk.cli.call import Call
from clinvk.cli.console import Console
from clinvk.config.cascade import Loaded
from clinvk.events import TokenUsage
from clinvk.response import ChainResult, CompareResult, ParallelResult, PromptResult

Result = PromptResult | ParallelResult | ChainResult | CompareResult


def exit_code(result: Result) -> int:
    """That of the error, else the backend's own; of several results that of the first that went wrong."""
    if isinstance(result, PromptResult):
        return _of_prompt(result)
    if result.status in ("completed", "running"):
        return exits.OK
    if result.status == "cancelled":
        return exits.CANCELLED
    codes = (_of_prompt(part) for part in result.results if part.status not in ("completed", "cancelled"))
    return next((code for code in codes if code != exits.OK), exits.GENERAL)


def _of_prompt(result: PromptResult) -> int:
    if result.status == "cancelled":  # also by a server that stopped, whose word for it is another
        return exits.CANCELLED
    if result.error is None:
        return exits.OK if result.status in ("completed", "running") else exits.GENERAL
    if result.error.code == "overloaded" and result.exit_code is not None:
        return exits.API  # the model's service is; where clinvk itself is, no program was started
    if result.error.code == "backend_error" and "http_status" in result.error.details:
        return exits.API  # of the service; the exit code of Gemini CLI is then that status modulo 256
    code = exits.of_error(result.error.code)
    return result.exit_code or exits.GENERAL if code == exits.GENERAL else code


def handed_out(call: Call, result: Result) -> None:
    """A run that goes on in the background: its id, and nothing else, on standard output."""
    if call.format == "text":
        call.console.say(result.run_id)
    call.console.note(f"clinvk: it runs in the background; clinvk runs wait {result.run_id}")


def tell(console: Console, result: PromptResult, name: str = "") -> None:
    """Warnings and the error of one result."""
    prefix = f"{name}: " if name else ""
    for warning in result.warnings:
        console.note(f"clinvk: warning: {prefix}{warning}")
    if result.error is not None:
        console.complain(f"{prefix}{result.error.message}", result.error.hint)


def count(call: Call, loaded: Loaded, results: Iterable[PromptResult]) -> None:
    """Tokens and time, where the configuration asks for them (output.show_tokens, output.show_timing)."""
    output = loaded.config.output
    if call.format != "text" or not (output.show_tokens or output.show_timing):
        return
    for result in results:
        parts = [result.backend]
        if output.show_timing:
            parts.append(f"time: {seconds(result.duration_ms)}")
        if output.show_tokens:
            parts.append(f"tokens: {tokens(result.token_usage)}")
            if result.cost_usd is not None:
                parts.append(f"cost: {cost(result.cost_usd)}")
        call.console.note(" · ".join(parts))


def tokens(usage: TokenUsage) -> str:
    """`12 in (2 cached), 3 out`."""
    if usage.input_tokens is None and usage.output_tokens is None:
        return "unknown"
    cached = f" ({usage.cached_tokens:,} cached)" if usage.cached_tokens else ""
    came, went = (("?" if each is None else f"{each:,}") for each in (usage.input_tokens, usage.output_tokens))
    return f"{came} in{cached}, {went} out"


def cost(usd: float | None) -> str:
    """`$0.0012`; nothing where it is unknown."""
    return "" if usd is None else f"${usd:.4f}"


def seconds(duration_ms: int | None) -> str:
    """`3.2 s`."""
    return "" if duration_ms is None else f"{duration_ms / 1000:.1f} s"
