"""The generated parts of the front page: the hero figure, six cards, the counts by verdict.

Words and numbers come from ``results/headlines.csv`` and the recorded runs, pictures from the
executed chapters.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Any

from thesis_repro.publish.execute import Executed
from thesis_repro.tables import headlines, overview
from thesis_repro.tables.escape import markdown
from thesis_repro.tables.headlines import Headline

CARDS = (
    "explanations/influence",
    "robustness/gloro",
    "robustness/relaxed",
    "weaknesses/bias",
    "weaknesses/membership",
    "weaknesses/leakage",
)
"""The chapters of the front page: one for each paper of the thesis."""
HERO = "robustness/relaxed"
FOLDER = "book/_figures"


def pictures(executed: Iterable[Executed]) -> dict[str, tuple[bytes, str]]:
    """Return each chapter's headline picture as PNG, with its alternative text, by chapter.

    Raises
    ------
    ValueError
        A chapter does not draw the figure that its headline names.
    """
    lines, found = headlines.lines(), {}
    for ran in executed:
        chapter = ran.docname.removeprefix("book/")
        if chapter in lines:
            found[chapter] = _picture(ran, lines[chapter]["figure"])
    return found


def _picture(ran: Executed, name: str) -> tuple[bytes, str]:
    import nbformat

    for cell in nbformat.read(ran.path, as_version=4).cells:
        about: Any = cell.metadata.get("mystnb", {})
        if about.get("figure", {}).get("name") == name:
            drawn = [o.data["image/png"] for o in cell.outputs if "image/png" in o.get("data", {})]
            return base64.b64decode(drawn[0]), about["image"]["alt"]
    raise ValueError(f"{ran.docname} draws no figure {name}, which its headline names")


def place(chapter: str) -> str:
    """Return where a chapter's picture is staged."""
    return f"{FOLDER}/card-{chapter.rpartition('/')[2]}.png"


def front(titles: dict[str, str], alts: dict[str, str]) -> str:
    """Return hero, cards and counts as MyST.

    Parameters
    ----------
    titles : dict
        The chapters' titles, by chapter.
    alts : dict
        The alternative texts of the pictures that there are, by chapter.
    """
    shown = [headlines.headline(chapter) for chapter in CARDS if chapter in titles]
    parts = [_hero(alts[HERO])] if HERO in alts else []
    if shown:
        cards = "\n".join(_card(one, titles[one.chapter], alts.get(one.chapter)) for one in shown)
        parts.append(f"::::::{{grid}} 1 2 2 3\n:gutter: 3\n\n{cards}::::::\n")
    claims = overview.evidence()
    if not claims.empty:
        own = overview.ours(claims)
        theirs, mine = (headlines.tally(overview.by_verdict(claims[c])) for c in (~own, own))
        parts.append(
            f"**{(~own).sum()} claims of the thesis and its papers, judged by rule:** {theirs}. "
            f"**{own.sum()} of this book's own:** {mine}. "
            "{doc}`Every one, with its source <reference/evidence>`; "
            "{doc}`how we judge <reference/judging>`.\n"
        )
    return "\n".join(parts)


def _hero(alt: str) -> str:
    return (
        f":::{{figure}} /{place(HERO)}\n:name: fig-hero\n:alt: {alt}\n\n"
        "A net that may say “I cannot prove it”. Left: it has to prove one label, and rejects what "
        "is grey. Right: it may prove “one of these two”.\n:::\n"
    )


def _card(one: Headline, title: str, alt: str | None) -> str:
    picture = f":img-top: /{place(one.chapter)}\n:img-alt: {alt}\n" if alt else ""
    return (
        f":::::{{grid-item-card}} {title}\n:link: /book/{one.chapter}\n:link-type: doc\n{picture}\n"
        f"Claimed: {markdown(one.words)}\n\nJudged: {markdown(one.says)} "
        f"{one.asked}: {markdown(one.published)}. Ours: {markdown(one.ours)}.\n\n"
        f"**{one.verdict}**\n:::::\n"
    )
