"""From bytes to lines, from events to the answer."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clinvk.events import TextDelta, TextEnd, ToolFinished, ToolStarted
from clinvk.executor import spool
from clinvk.executor.spool import Answer, Lines

CHUNKS = st.lists(st.binary(max_size=12).map(lambda raw: raw.replace(b"\x00", b"\n")), max_size=30)


@given(CHUNKS)
def test_lines_are_those_of_the_whole_however_it_is_cut(chunks: list[bytes]) -> None:
    lines = Lines()
    found = [line for chunk in chunks for line in lines.feed(chunk)]
    found += lines.rest()
    assert [line for line in found if line] == [line for line in b"".join(chunks).split(b"\n") if line]


@given(st.lists(st.integers(min_value=0, max_value=30), max_size=12), st.integers(min_value=1, max_value=17))
def test_only_lines_over_the_limit_are_skipped_and_counted(sizes: list[int], cut: int) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(spool, "MAX_LINE_BYTES", 10)
        whole = b"".join(b"x" * size + b"\n" for size in sizes)
        lines = Lines()
        found = [line for at in range(0, len(whole), cut) for line in lines.feed(whole[at : at + cut])]
        found += lines.rest()
    # a line that lies within one piece was in memory already and is let through
    assert [len(line) for line in found if 0 < len(line) <= 10] == [size for size in sizes if 0 < size <= 10]
    assert len([line for line in found if line]) + lines.skipped == len([size for size in sizes if size])
    assert all(len(line) <= max(10, cut) for line in found)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(st.text(alphabet=st.characters(codec="utf-8"), max_size=9), max_size=12))
def test_the_answer_is_all_of_one_message_and_its_head_the_beginning(tmp_path: Path, texts: list[str]) -> None:
    path = tmp_path / "output.txt"
    path.unlink(missing_ok=True)  # of the example before
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(spool, "KEPT_CHARS", 20)
        answer = Answer(path)
        for text in texts:
            answer.take(TextDelta(text))
        answer.close()
    whole = "".join(texts)
    assert (answer.head, answer.chars) == (whole[:20], len(whole))
    assert path.exists() is (len(whole) > 20)
    if path.exists():
        assert path.read_bytes().decode() == whole


@pytest.mark.parametrize("between", [TextEnd(), ToolStarted("1", "Bash"), ToolFinished("1", "Bash", True)])
def test_the_answer_is_the_last_message(tmp_path: Path, between: TextEnd | ToolStarted | ToolFinished) -> None:
    answer = Answer(tmp_path / "output.txt")
    for event in (TextDelta("let me "), TextDelta("see"), between, TextDelta("42"), TextDelta("!"), TextEnd()):
        answer.take(event)
    assert (answer.head, answer.chars) == ("42!", 3)


def test_an_empty_delta_after_a_message_does_not_drop_it(tmp_path: Path) -> None:
    answer = Answer(tmp_path / "output.txt")
    for event in (TextDelta("42"), TextEnd(), TextDelta("")):
        answer.take(event)
    assert answer.head == "42"


def test_a_short_message_after_a_long_one_leaves_no_file_of_the_long_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "KEPT_CHARS", 4)
    answer = Answer(tmp_path / "output.txt")
    for event in (TextDelta("a long one"), TextEnd(), TextDelta("end")):
        answer.take(event)
    answer.close()
    assert answer.head == "end"
    assert not (tmp_path / "output.txt").exists()
