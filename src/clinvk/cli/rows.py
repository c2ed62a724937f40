"""What a table shows, whoever draws it."""

from dataclasses import dataclass, field

from clinvk.cli import terminal

STATUS = "STATUS"  # this column is coloured


@dataclass(frozen=True, slots=True)
class Listing:
    """Headings and rows; the last column gives way where there is not enough room."""

    headings: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list[tuple[str, ...]])

    def add(self, *cells: str) -> None:
        """Add a row; what others wrote takes one line and moves no cursor."""
        self.rows.append(tuple(" ".join(terminal.printable(cell).split()) for cell in cells))
