"""docs/gateway.md says what the gateway does."""

import re
from pathlib import Path

from starlette.datastructures import URLPath

from clinvk.gateway import answers, anthropic, chat, openai, openapi

TEXT = (Path(__file__).parents[2] / "docs" / "gateway.md").read_text(encoding="utf-8")


def row(name: str) -> list[set[str]]:
    line = next(line for line in TEXT.splitlines() if line.startswith(f"| {name} |"))
    return [set(re.findall(r"`([a-z_.]+)`", cell)) for cell in line.split("|")[2:5]]


def test_parameters_are_honoured_and_refused_as_documented() -> None:
    assert row("OpenAI")[:2] == [set(openai.HONOURED), set(openai.REFUSED)]
    honoured = {name.replace("output_config", "output_config.format") for name in anthropic.HONOURED}
    assert row("Anthropic")[:2] == [honoured, set(anthropic.REFUSED)]


def test_every_error_code_stands_in_the_row_of_its_status() -> None:
    rows = re.findall(r"^\| (\d{3})[^|]*\| ([a-z_, ]+) \|$", TEXT, re.MULTILINE)
    documented = {code: int(status) for status, codes in rows for code in codes.split(", ")}
    assert documented == answers.STATUS


def test_every_route_and_header_is_named() -> None:
    for one in openapi.described():
        path = URLPath(one.path).removeprefix("/api/v1").removesuffix("/fork").split("/{")[0].split("/")[1]
        assert path in TEXT
    own = (chat.SESSION_HEADER, chat.WORKDIR_HEADER, chat.IGNORED_HEADER, chat.WARNING_HEADER)
    for header in (*own, "X-Clinvk-Run", "X-Should-Retry"):
        assert f"`{header}" in TEXT
    for name in chat.ChatOptions.model_fields:
        assert f"`{name}`" in TEXT
