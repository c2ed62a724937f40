"""The full text of turns inside the index: one row for each turn, trigrams where SQLite has them.

A row's id is the session's number shifted left, plus the place of the turn, so that sessions are found without a join
and all rows of a session are one range.
"""

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from typing import NamedTuple

from clinvk.sessions import turnlog
from clinvk.sessions.heads import Heads
from clinvk.sessions.search import fold

INDEXED_CHARS = 1_000_000  # of one turn; what lies beyond is not found by a search
SHORT_TERM_TURNS = 50_000  # the newest turns are looked through for a term too short for trigrams
BATCH = 200
TURN_BITS = 20
INITIAL_PROMPT = -1  # in place of the byte where a turn starts: the text is the head's initial prompt

_TRIGRAMS = "CREATE VIRTUAL TABLE text USING fts5 (body, start UNINDEXED, tokenize='trigram case_sensitive 1')"
_PLAIN = "CREATE TABLE text (body TEXT, start INTEGER)"
_BEHIND = """
SELECT num, id, turns_bytes, text_bytes, texts FROM heads WHERE turns_bytes != text_bytes OR texts = 0 LIMIT ?
"""
_ADD = "INSERT INTO text (rowid, body, start) VALUES (?, ?, ?)"


class _Behind(NamedTuple):
    num: int
    id: str
    turns_bytes: int
    text_bytes: int
    texts: int


@contextmanager
def transaction(db: sqlite3.Connection) -> Generator[None]:
    """A write transaction, all of it or nothing."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


def build(db: sqlite3.Connection) -> None:
    """Create the table; a plain one where SQLite lacks trigrams (before 3.34, or built without FTS5)."""
    try:
        db.execute(_TRIGRAMS)
    except sqlite3.OperationalError:
        db.execute(_PLAIN)


def update(db: sqlite3.Connection, heads: Heads) -> None:
    """Add the turns that the table lacks, in small transactions, so that an interrupted build goes on."""
    while db.execute(_BEHIND, [1]).fetchone():
        with transaction(db):
            for row in db.execute(_BEHIND, [BATCH]).fetchall():
                _add(db, heads, _Behind(*row))


def forget(db: sqlite3.Connection, num: int) -> None:
    """Remove all turns of a session."""
    db.execute("DELETE FROM text WHERE rowid >= ? AND rowid < ?", _range(num))


def holding(db: sqlite3.Connection, term: str) -> tuple[str, str]:
    """A source of rows whose body holds `term`, with the one value that it takes."""
    if len(term) >= 3 and _has_trigrams(db):
        return "text WHERE text MATCH ?", _phrase(term)
    newest = f"(SELECT rowid, body FROM text ORDER BY rowid DESC LIMIT {SHORT_TERM_TURNS})"
    return f"{newest} WHERE instr(body, ?) > 0", term


def first_match(db: sqlite3.Connection, num: int, terms: list[str]) -> int | None:
    """Where the newest turn of a session starts that holds the first term that any holds; None: no turn does."""
    trigrams = _has_trigrams(db)
    for term in terms:
        long = len(term) >= 3 and trigrams
        condition, value = ("text MATCH ?", _phrase(term)) if long else ("instr(body, ?) > 0", term)
        query = f"SELECT start FROM text WHERE {condition} AND rowid >= ? AND rowid < ? ORDER BY rowid DESC LIMIT 1"
        if found := db.execute(query, [value, *_range(num)]).fetchone():
            return int(found[0])
    return None


def _add(db: sqlite3.Connection, heads: Heads, behind: _Behind) -> None:
    start, texts = behind.text_bytes, behind.texts
    if behind.turns_bytes < start:  # the file was replaced by a shorter one
        forget(db, behind.num)
        start = texts = 0
    bodies: list[tuple[str, int]] = []
    if texts == 0:  # a session whose first turn is still under way is found by its prompt
        head = heads.listed(behind.id)
        bodies.append((head.initial_prompt if head else "", INITIAL_PROMPT))
    lines = turnlog.lines(heads.turns_path(behind.id), start, behind.turns_bytes)
    bodies += [(f"{turn.prompt}\n{turn.output}", line.start) for line in lines if (turn := line.turn())]
    first = (behind.num << TURN_BITS) + texts
    db.executemany(_ADD, [(first + at, fold(body[:INDEXED_CHARS]), start) for at, (body, start) in enumerate(bodies)])
    db.execute(
        "UPDATE heads SET text_bytes = ?, texts = ? WHERE num = ?",
        (behind.turns_bytes, texts + len(bodies), behind.num),
    )


def _has_trigrams(db: sqlite3.Connection) -> bool:
    (definition,) = db.execute("SELECT sql FROM sqlite_master WHERE name = 'text'").fetchone()
    return "fts5" in definition


def _phrase(term: str) -> str:
    return '"' + term.replace('"', '""') + '"'


def _range(num: int) -> tuple[int, int]:
    return num << TURN_BITS, (num + 1) << TURN_BITS
