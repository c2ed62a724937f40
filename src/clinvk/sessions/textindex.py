"""The text of turns inside the index: one folded row for each turn, and trigrams of the rows where SQLite has them.

Making trigrams costs a hundred times as much as looking through the same text once, so each search makes a few only and
looks through the rows that have none yet: no search waits for an index. A row's number is the session's shifted left,
plus the place of the turn: sessions are found without a join, and the rows of one are a range.
"""

import sqlite3
from contextlib import suppress
from typing import NamedTuple

from clinvk.derived import transaction
from clinvk.sessions import turnlog
from clinvk.sessions.heads import Heads
from clinvk.sessions.search import fold

INDEXED_CHARS = 1_000_000  # of one turn; what lies beyond is not found by a search
SHORT_TERM_TURNS = 30_000  # the newest turns are looked through for a term too short for trigrams
SCANNED_CHARS = 4_000_000  # text without trigrams that a search may look through, about 10 ms
TRIGRAM_CHARS = 100_000  # text that one search gives trigrams, about 40 ms
BATCH = 500
TURN_BITS = 20
INITIAL_PROMPT = -1  # in place of the byte where a turn starts: the text is the head's initial prompt

SCHEMA = (
    "CREATE TABLE bodies (num INTEGER PRIMARY KEY, start INTEGER, body TEXT)",
    "CREATE TABLE fresh (num INTEGER PRIMARY KEY, chars INTEGER)",  # rows of `bodies` without trigrams
)
_TRIGRAMS = """
CREATE VIRTUAL TABLE grams USING fts5 (
    body, content = 'bodies', content_rowid = 'num', detail = 'none', tokenize = 'trigram case_sensitive 1'
)
"""
_BEHIND = """
SELECT num, id, turns_bytes, text_bytes, texts FROM heads WHERE turns_bytes != text_bytes OR texts = 0 LIMIT ?
"""
# A cross join keeps SQLite from reading all bodies instead of following the small table.
_IN_FRESH = "SELECT bodies.num FROM fresh CROSS JOIN bodies ON bodies.num = fresh.num WHERE instr(body, ?) > 0"
_IN_GRAMS = """
SELECT bodies.num FROM grams CROSS JOIN bodies ON bodies.num = grams.rowid
WHERE grams MATCH ? AND instr(bodies.body, ?) > 0
"""
_IN_NEWEST = f"""
SELECT num FROM bodies WHERE instr(body, ?) > 0
AND num >= (SELECT min(num) FROM (SELECT num FROM bodies ORDER BY num DESC LIMIT {SHORT_TERM_TURNS}))
"""


class _Behind(NamedTuple):
    num: int
    id: str
    turns_bytes: int
    text_bytes: int
    texts: int


def build(db: sqlite3.Connection) -> None:
    """Create the tables; without trigrams where SQLite lacks them (before 3.34, or built without FTS5)."""
    for statement in SCHEMA:
        db.execute(statement)
    with suppress(sqlite3.OperationalError):
        db.execute(_TRIGRAMS)


def update(db: sqlite3.Connection, heads: Heads) -> None:
    """Add the turns that are missing, in small transactions, so that an interrupted build goes on."""
    while db.execute(_BEHIND, [1]).fetchone():
        with transaction(db):
            for row in db.execute(_BEHIND, [BATCH]).fetchall():
                _add(db, heads, _Behind(*row))


def add_trigrams(db: sqlite3.Connection, *, everything: bool = False) -> None:
    """Give some rows their trigrams when there are many without; with `everything`, all rows."""
    if not _has_trigrams(db):
        return
    limit = 0 if everything else SCANNED_CHARS
    while (db.execute("SELECT sum(chars) FROM fresh").fetchone()[0] or 0) > limit:
        with transaction(db):
            room = TRIGRAM_CHARS
            rows = db.execute("SELECT num, body FROM fresh JOIN bodies USING (num) ORDER BY num LIMIT ?", [BATCH])
            for num, body in rows.fetchall():
                db.execute("INSERT INTO grams (rowid, body) VALUES (?, ?)", [num, body])
                db.execute("DELETE FROM fresh WHERE num = ?", [num])
                room -= len(body)
                if room <= 0:
                    break
        if not everything:
            return


def forget(db: sqlite3.Connection, num: int) -> None:
    """Remove all turns of a session."""
    among = "num >= ? AND num < ?"
    if _has_trigrams(db):
        db.execute(
            "INSERT INTO grams (grams, rowid, body) SELECT 'delete', num, body FROM bodies"
            f" WHERE {among} AND num NOT IN (SELECT num FROM fresh)",
            _range(num),
        )
    db.execute(f"DELETE FROM fresh WHERE {among}", _range(num))
    db.execute(f"DELETE FROM bodies WHERE {among}", _range(num))


def holding(db: sqlite3.Connection, term: str) -> tuple[str, list[str]]:
    """A query for the numbers of sessions with a turn that holds `term`, and the values it takes."""
    session = f"SELECT num >> {TURN_BITS} FROM"
    if len(term) < 3:
        return f"{session} ({_IN_NEWEST})", [term]
    if not _has_trigrams(db):
        return f"{session} ({_IN_FRESH})", [term]
    grams = dict.fromkeys(term[at : at + 3] for at in range(len(term) - 2))
    every = " AND ".join('"' + gram.replace('"', '""') + '"' for gram in grams)
    return f"{session} ({_IN_FRESH}) UNION {session} ({_IN_GRAMS})", [term, every, term]


def first_match(db: sqlite3.Connection, num: int, terms: list[str]) -> int | None:
    """Where the newest turn of a session starts that holds the first term that any holds; None: no turn does."""
    query = "SELECT start FROM bodies WHERE num >= ? AND num < ? AND instr(body, ?) > 0 ORDER BY num DESC LIMIT 1"
    for term in terms:
        if found := db.execute(query, [*_range(num), term]).fetchone():
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
    rows = [(first + at, start, fold(body[:INDEXED_CHARS])) for at, (body, start) in enumerate(bodies)]
    db.executemany("INSERT INTO bodies VALUES (?, ?, ?)", rows)
    db.executemany("INSERT INTO fresh VALUES (?, ?)", [(num, len(body)) for num, _, body in rows])
    db.execute(
        "UPDATE heads SET text_bytes = ?, texts = ? WHERE num = ?",
        (behind.turns_bytes, texts + len(bodies), behind.num),
    )


def _has_trigrams(db: sqlite3.Connection) -> bool:
    return db.execute("SELECT 1 FROM sqlite_master WHERE name = 'grams'").fetchone() is not None


def _range(num: int) -> tuple[int, int]:
    return num << TURN_BITS, (num + 1) << TURN_BITS
