"""A Sphinx extension: what this book wants otherwise than the extensions it is built with."""

from __future__ import annotations

import re
from typing import Any

LITERAL = re.compile(r"(``.*?``)")
# the star of "(n, *shape)", not of "*emphasis*"; the bars of "|x|", not of "int | None"
MARKUP = re.compile(r"(?<![*\\])\*(?=\w+[,)])|(?<!\\)\|(?=\S)|(?<=[^\s\\])\|")


def setup(app: Any) -> dict[str, Any]:
    """Register with Sphinx."""
    app.add_role("source", source)
    app.connect("builder-inited", _without_thebe, priority=1)
    app.connect("autodoc-process-docstring", _plain, priority=400)  # before napoleon, at 500
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def source(
    role: str, raw: str, text: str, line: int, inliner: Any, *_: Any
) -> tuple[list[Any], list[Any]]:
    """Read ``{source}`words <module:name>```: a link to the page with the module's source code.

    Pages of source code are made at the end of an HTML build, so nothing that Sphinx can refer to
    is there yet; other builds get the words alone.
    """
    from docutils import nodes

    env = inliner.document.settings.env
    words, target = text.removesuffix(">").rsplit(" <", 1)
    module, name = target.split(":")
    literal = nodes.literal(raw, words)
    if env.app.builder.format != "html":
        return [literal], []
    page = f"_modules/{module.replace('.', '/')}"
    url = f"{env.app.builder.get_relative_uri(env.docname, page)}#{name}"
    return [nodes.reference(raw, "", literal, refuri=url, internal=True)], []


def _without_thebe(app: Any) -> None:
    """Drop live code: its scripts come from another host, and are put on each page twice."""
    for listeners in app.events.listeners.values():
        listeners[:] = [one for one in listeners if one.handler.__module__ != "sphinx_thebe"]


def _plain(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Escape stars of shapes and bars of absolute values, which would be markup."""
    for number, line in enumerate(lines):
        parts = LITERAL.split(line)
        parts[::2] = [MARKUP.sub(r"\\\g<0>", part) for part in parts[::2]]
        lines[number] = "".join(parts)
