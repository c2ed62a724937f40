"""What a table shows, whoever draws it."""

from dataclasses import dataclass, field

from clinvk.cli import terminal

STATUS = "STATUS"  # this column is coloured
GAP = 3  # cells between two columns
LEAST = 8  # cells of the last column, below which it tells nothing


@dataclass(frozen=True, slots=True)
class Listing:
    """Headings and rows; the last column gives way where there is not enough room."""

    headings: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list[tuple[str, ...]])

    def add(self, *cells: str) -> None:
        """Add a row; what others wrote takes one line and moves no cursor."""
        self.rows.append(tuple(" ".join(terminal.printable(cell).split()) for cell in cells))

    def stacked(self) -> list[str]:
        """The rows as paragraphs, for where they have no room: the first cell, then what is in the others."""
        lines: list[str] = []
        for row in self.rows:
            facts = [
                cell if heading == self.headings[-1] else f"{heading.lower()} {cell}"
                for heading, cell in zip(self.headings[1:], row[1:], strict=True)
                if cell
            ]
            lines += [row[0] or self.headings[0].lower(), f"  {' · '.join(facts)}"]
        return lines

    def width(self) -> int:
        """Cells that all columns but the last take, with what stands between them, and a few of the last."""
        table = [self.headings, *self.rows]
        return sum(max(map(len, column)) + GAP for column in list(zip(*table, strict=True))[:-1]) + LEAST
