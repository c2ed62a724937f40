from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clinvk.errors import ClinvkError
from clinvk.sessions import search, textindex
from clinvk.sessions.model import Session, SessionFilter, TurnRecord
from clinvk.sessions.store import SessionStore


def talk(store: SessionStore, name: str, *turns: tuple[str, str], title: str = "t") -> None:
    store.create(Session(id=name, backend="claude", title=title))
    for at, (prompt, output) in enumerate(turns):
        store.append_turn(name, TurnRecord(run_id=f"{name}-{at}", prompt=prompt, output=output))


def found(store: SessionStore, query: str) -> set[str]:
    return {hit.session.id for hit in store.search(query, limit=1000).hits}


def test_every_word_must_occur_somewhere_in_the_session(store: SessionStore) -> None:
    talk(store, "a", ("Refactor the parser", "Done: Tokenizer"), ("more", "walrus"))
    talk(store, "b", ("parser", "nothing"), title="Big Walrus")
    talk(store, "c", ("else", "entirely"))
    assert found(store, "PARSE") == {"a", "b"}
    assert found(store, "walrus parser") == {"a", "b"}
    assert found(store, "walrus tokenizer") == {"a"}
    assert found(store, '"refactor the"') == {"a"}
    assert found(store, '"the refactor"') == set()
    assert found(store, "arse okeniz") == {"a"}
    assert found(store, "zz") == set()
    assert found(store, "r p") == {"a", "b"}


def test_filters_limit_a_search(store: SessionStore) -> None:
    for name in ("a", "b", "c"):
        talk(store, name, ("walrus", ""))
    store.tag("b", ["x"])
    page = store.search("walrus", SessionFilter(tag="x", text="walr"))
    assert ([hit.session.id for hit in page.hits], page.total) == (["b"], 1)
    page = store.search("walrus", limit=1, offset=1)
    assert (len(page.hits), page.total) == (1, 3)


def test_a_snippet_shows_the_words_around_the_match(store: SessionStore) -> None:
    talk(store, "a", ("q", "lorem " * 100 + "the Walrus\n  sat " + "ipsum " * 100))
    hit = store.search("walrus").hits[0]
    assert "the Walrus sat" in hit.snippet
    assert hit.snippet.startswith("…")
    assert hit.snippet.endswith("…")
    assert len(hit.snippet) <= search.SNIPPET_CHARS + 2
    talk(store, "b", title="only in the Title")
    assert store.search("title").hits[0].snippet == "only in the Title"


def test_a_session_whose_first_turn_is_under_way_is_found_by_its_prompt(store: SessionStore) -> None:
    store.create(Session(id="a", backend="claude", title="t", initial_prompt="find the walrus"))
    assert store.search("walrus").hits[0].snippet == "find the walrus"


def test_turns_added_and_removed_later_are_followed(store: SessionStore) -> None:
    talk(store, "a", ("one", "first"))
    assert found(store, "first") == {"a"}
    store.append_turn("a", TurnRecord(run_id="z", prompt="two", output="second walrus"))
    assert found(store, "walrus") == {"a"}
    store.complete_index()
    assert found(store, "walrus") == {"a"}
    store.delete("a")
    assert found(store, "walrus") == set()
    talk(store, "a", ("one", "first"))
    assert found(store, "walrus") == set()
    assert found(store, "first") == {"a"}


def test_a_query_without_words_is_refused(store: SessionStore) -> None:
    for query in ("", "  ", '""', '" "'):
        with pytest.raises(ClinvkError) as caught:
            store.search(query)
        assert caught.value.failure.code == "invalid_request"


def test_search_gives_trigrams_bit_by_bit_and_answers_the_same(
    store: SessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(textindex, "SCANNED_CHARS", 100)
    monkeypatch.setattr(textindex, "TRIGRAM_CHARS", 50)
    for at in range(20):
        talk(store, f"s{at}", (f"walrus number {at}", "x" * 30))
    for _ in range(15):
        assert found(store, "walrus") == {f"s{at}" for at in range(20)}
        assert found(store, "walrus 7") == {"s7", "s17"}


def test_search_works_where_sqlite_has_no_trigrams(store: SessionStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(textindex, "_TRIGRAMS", "CREATE VIRTUAL TABLE grams USING missing (body)")
    talk(store, "a", ("one", "walrus"))
    store.complete_index()
    assert found(store, "walrus") == {"a"}
    store.delete("a")
    assert found(store, "walrus") == set()


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.text(st.sampled_from("aAbBß\u017fİ\u0131é\0\"'%_* \n漢\U0001f600"), max_size=12), min_size=1, max_size=6
    ),
    st.lists(
        st.text(st.sampled_from("aAbBß\u017fİ\u0131é'%_*漢\U0001f600"), min_size=1, max_size=4), min_size=1, max_size=4
    ),
    st.booleans(),
)
def test_search_finds_exactly_what_holds_the_words(texts: list[str], words: list[str], complete: bool) -> None:
    with TemporaryDirectory() as folder:
        store = SessionStore(Path(folder))
        for at, text in enumerate(texts):
            talk(store, f"s{at}", ("-", text), title="=")
        if complete:
            store.complete_index()
        for word in words:
            folded = word.casefold()
            assert found(store, word) == {f"s{at}" for at, text in enumerate(texts) if folded in text.casefold()}
