"""The editors of client files: whatever they do, what the text means otherwise stays."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clinvk.cli import jsonc, tomltext

NAMES = st.text(max_size=5) | st.sampled_from(["clinvk", "mcpServers", "//", "/*", '"', "\\"])
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=8)
    | st.sampled_from(["// no", "/* no */", '\\"', ",}"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=12,
)
SERVERS = st.dictionaries(NAMES, VALUES, max_size=3)
DOCUMENTS = st.dictionaries(NAMES.filter(lambda name: name != "mcpServers"), VALUES, max_size=3)


@given(
    document=DOCUMENTS, servers=SERVERS | st.none(), indent=st.sampled_from([None, 1, 2, 4, "\t"]), ascii_=st.booleans()
)
def test_setting_and_taking_out_a_member_changes_no_other(
    document: dict[str, Any], servers: dict[str, Any] | None, indent: int | str | None, ascii_: bool
) -> None:
    before = dict(document) if servers is None else {**document, "mcpServers": servers}
    text = json.dumps(before, indent=indent, ensure_ascii=ascii_)
    assert jsonc.parse(text) == before
    with_it = jsonc.with_member(text, "mcpServers", "clinvk", {"command": "x", "args": ["mcp"]})
    wanted = {**before, "mcpServers": {**(servers or {}), "clinvk": {"command": "x", "args": ["mcp"]}}}
    assert jsonc.parse(with_it) == json.loads(with_it) == wanted
    without = jsonc.without_member(with_it, "mcpServers", "clinvk")
    assert json.loads(without)["mcpServers"] == {
        name: each for name, each in (servers or {}).items() if name != "clinvk"
    }


@pytest.mark.parametrize(
    "text",
    ["{", "[1", '{"a"}', '{"a": }', '{"a": 1 "b": 2}', "{'a': 1}", '{"a": 1} x', '{"a": nul}', "{/* open", '{"a":1,,}'],
)
def test_what_is_no_json_is_not_taken_for_it(text: str) -> None:
    with pytest.raises(jsonc.EditError):
        jsonc.parse(text)


def test_of_two_equal_names_the_last_counts() -> None:
    text = '{"mcpServers": {"clinvk": {"a": 1}, "clinvk": {"b": 2}}}'
    assert jsonc.parse(jsonc.with_member(text, "mcpServers", "clinvk", {})) == {"mcpServers": {"clinvk": {}}}


TABLES = [
    "",
    "a = 1",
    "[other]\nx = 1\n",
    "[[list]]\nx = 1\n\n[[list]]\nx = 2\n",
    "[mcp_servers.b]\nargs = [\n  'x',\n]\n",
]


@pytest.mark.parametrize("before", TABLES)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_toml_table_is_set_and_taken_out_again(before: str, newline: str) -> None:
    before = before.replace("\n", newline)
    values = {"command": 'C:\\"x" ä', "args": ["mcp"], "timeout": 120, "env": {"A-B": "c"}}
    after = tomltext.with_table(before, "mcp_servers", "clinvk", values)
    servers = tomltext.parse(before).get("mcp_servers", {})
    assert tomltext.parse(after) == {**tomltext.parse(before), "mcp_servers": {**servers, "clinvk": values}}
    assert after.startswith(before)
    again = tomltext.without_table(after, "mcp_servers", "clinvk")
    assert again.rstrip() == before.rstrip()
