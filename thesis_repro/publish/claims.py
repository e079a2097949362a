"""The generated parts of the evidence page and of "How we judge"."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from thesis_repro.publish.sources import pages, title

FOLDER = "book/reference/_generated"
NONE_YET = "No claim is listed yet.\n"


def evidence(root: Path) -> dict[str, str]:
    """Return counts by kind, the picture, and a table of all claims for each part of the thesis."""
    from thesis_repro.figures import evidence as picture
    from thesis_repro.tables import overview

    claims = overview.evidence()
    if claims.empty:
        return {f"{FOLDER}/evidence.md": NONE_YET}
    own = overview.ours(claims)
    parts = [_counts(overview.counts(claims[~own]), overview.by_verdict(claims[own]))]
    shown, files = overview.numbers(claims), {}
    if len(shown):
        parts.append(
            f"```{{figure}} /{FOLDER}/evidence.svg\n:name: fig-evidence\n"
            f":alt: {picture.alt(shown)}\n\n"
            "Published values (bars) and ours, with 95% intervals. Above, ratios on a logarithmic "
            "axis: the darker band is what counts as reproduced, the paler one as the same order "
            "of magnitude. Below, values, with their tolerance as a band.\n```\n"
        )
        files[f"{FOLDER}/evidence.svg"] = picture.svg(shown)
    for stem, name in overview.PARTS.items():
        mine = claims[claims["chapter"].str.startswith(f"{stem}/")]
        if len(mine):
            order = {doc.removeprefix("book/"): place for place, doc in enumerate(pages(root))}
            mine = mine.sort_values("chapter", key=lambda c: c.map(order), kind="stable")
            lines = [_claim(root, row, set(order)) for row in mine.to_dict("records")]
            headings = ["verdict", "claim", "kind", "published, or needed", "ours", "where"]
            headings.append("source; note")
            parts.append(f"## {name}\n")
            parts.append(_table(f"tab-evidence-{stem}", f"{name}: every claim.", headings, lines))
    return {f"{FOLDER}/evidence.md": "\n".join(parts), **files}


def _counts(counts: Any, own: dict[str, int]) -> str:
    """Kinds from left to right: there are fewer of them than verdicts, and a page is narrow."""
    from thesis_repro.tables.verdict import VERDICTS

    headings = ["verdict", *counts.index, "all", "this book's own"]
    words = [verdict for verdict in VERDICTS if verdict in counts or verdict in own]
    counts = counts.reindex(columns=words, fill_value=0)
    rows = [
        [word, *(str(n) if n else "–" for n in (*counts[word], counts[word].sum(), own.get(word)))]
        for word in words
    ]
    totals = counts.sum(axis=1)
    rows.append(["all", *map(str, totals), f"{totals.sum()}", f"{sum(own.values())}"])
    caption = (
        "How many claims of the thesis and its papers, of each kind, came to each verdict; in the "
        "last column, and in no other, the claims that this book makes itself."
    )
    return _table("tab-evidence-counts", caption, headings, rows)


def _claim(root: Path, row: dict[str, Any], known: set[str]) -> list[str]:
    from thesis_repro.tables.escape import markdown

    once = row["how_read"] in ("", row["source"])
    read = "" if once else f" ({row['how_read']})"
    has_number = row["value"] == row["value"] and row["value"] is not None
    beside = has_number and row["kind"] != "theorem, checked"  # else it is needed, not published
    published = row["published"] + read * beside
    ours = row["ours"]
    if row["share"] < 1:
        ours += f"; {100 * row['share']:.2g}% of the published training"
    said = "; ".join(filter(None, [row["source"] + read * (not beside), row["note"]]))
    return [
        f"**{row['verdict']}**",
        markdown(row["says"]),
        row["kind"],
        markdown(published),
        markdown(ours),
        _where(root, row, known),
        markdown(said),
    ]


def _where(root: Path, row: dict[str, Any], known: set[str]) -> str:
    """Return a link to the table of verdicts in its chapter; to the chapter without one."""
    docname = row["chapter"]
    if docname not in known:
        return f"`{row['table'] or docname}`"
    if row["table"]:
        label = "compare" if row["row"] else "words"
        return f"{{ref}}`{row['table']} <tab-{row['table']}-{label}>`"
    name = title((root / "book" / f"{docname}.md").read_text("utf-8"))
    return f"{{doc}}`{name} </book/{docname}>`"


def judging() -> str:
    """Return the kinds of claims, the rules with an example each, and every claim then and now."""
    from thesis_repro.tables import overview, rules
    from thesis_repro.tables.escape import markdown

    kinds = [[f"*{kind}*", meaning] for kind, meaning in rules.MEANING.items()]
    lines = [
        [f"**{rule.verdict}**", "; ".join(rule.kinds), markdown(rule.when), markdown(rule.example)]
        for rule in rules.RULES
    ]
    changed = [
        [
            f"`{line['table']}`" if line["table"] else "–",
            markdown(" / ".join(filter(None, [line["row"], line["column"]]))),
            markdown(line["published"]),
            line["before"] or "not judged",
            line["now"],
            markdown(line["why"]) or "–",
        ]
        for line in overview.before().to_dict("records")
    ]
    headings = ["table", "claim", "published", "before", "now", "what changed"]
    return "\n".join(
        [
            "## Kinds of claims\n",
            _table("tab-judging-kinds", "The kinds of claims.", ["kind", "what it is"], kinds),
            "## Words\n",
            _table(
                "tab-judging-rules",
                "The verdicts. The last four are looked for first, the others in this order. Each "
                "example was judged by the same code as our tables.",
                ["verdict", "kinds", "when", "example"],
                lines,
            ),
            "## Every claim, before and now\n",
            "Earlier rules had wider tolerances, judged ratios from one side, counted theorems "
            "among what was reproduced, and gave the word *trend* to all rows of a table at once. "
            "Every claim with the word that they gave it, and the word that it has now:\n",
            _table("tab-judging-before", "Verdicts before and now.", headings, changed),
        ]
    )


def _table(name: str, caption: str, headings: list[str], rows: list[list[str]]) -> str:
    from thesis_repro.tables.render import myst

    return myst((headings, rows), name, caption, markup=True)
