"""What a table can be printed as."""

from collections.abc import Callable

from thesis_repro.tables import latex, render
from thesis_repro.tables.spec import Frame

FORMATS: dict[str, Callable[[Frame], str]] = {
    "md": render.to_plain,
    "csv": render.to_csv,
    "latex": latex.of_frame,
    "json": render.to_json,
    "bibtex": render.to_bibtex,
}
