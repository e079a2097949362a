"""Add to results/superseded.csv the keys of recorded tables that git has and results/ has not.

Run it after a recording was committed: python tools/superseded.py. Why a key went is what the
commit that replaced it says.
"""

import csv
import hashlib
import io
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COLUMNS = ("key", "table", "run", "commit", "replaced_by", "why")


Past = dict[str, tuple[str, str, str, str, str]]


def past(root: Path = ROOT) -> Past:
    """Every key in git's history, oldest first: table, run, commit, the key after it, and why.

    The commit is the one that brought the file; why is the subject of the one that replaced it.
    """
    raw = _git(
        root, "log", "--reverse", "--format=commit %H %s", "--raw", "-m", "--no-abbrev",
        "--no-renames", "--", "results",
    )  # fmt: skip
    versions: list[tuple[str, str, str, str, str]] = []
    commit = subject = ""
    for line in raw.decode().splitlines():
        if line.startswith("commit "):
            _, commit, subject = line.split(" ", 2)
        elif line.startswith(":"):
            about, path = line.split("\t")
            parts, blob = Path(path).parts, about.split()[3]
            if len(parts) == 3 and path.endswith(".csv") and set(blob) != {"0"}:
                run = parts[2].removesuffix(".csv")
                versions.append((parts[1], run, commit, blob, subject))
    digests = _digests(root, sorted({version[3] for version in versions}))
    found: Past = {}
    latest: dict[tuple[str, str], str] = {}
    for table, run, commit, blob, subject in versions:
        key = f"{table}-{digests[blob][:12]}"
        before = latest.get((table, run))
        if before is not None and before != key:
            found[before] = (*found[before][:3], key, subject)
        found.setdefault(key, (table, run, commit, "", ""))
        latest[table, run] = key
    return found


def _digests(root: Path, blobs: list[str]) -> dict[str, str]:
    """SHA-256 of the content of each blob."""
    out = _git(root, "cat-file", "--batch", stdin="\n".join(blobs).encode())
    stream, found = io.BytesIO(out), {}
    for blob in blobs:
        size = int(stream.readline().split()[2])
        found[blob] = hashlib.sha256(stream.read(size)).hexdigest()
        stream.read(1)
    return found


def _git(root: Path, *arguments: str, stdin: bytes = b"") -> bytes:
    return subprocess.run(
        ["git", *arguments], cwd=root, input=stdin, capture_output=True, check=True
    ).stdout


def recorded(root: Path = ROOT) -> set[str]:
    """The keys of the recorded tables that are here."""
    return {
        f"{path.parent.name}-{hashlib.sha256(path.read_bytes()).hexdigest()[:12]}"
        for path in (root / "results").glob("*/*.csv")
    }


def main(root: Path = ROOT) -> None:
    """Add the lines that are missing; a key whose successor is not committed yet has none."""
    path = root / "results" / "superseded.csv"
    lines = list(csv.DictReader(path.open(encoding="utf-8"))) if path.exists() else []
    lines = [line for line in lines if line["replaced_by"]]
    known = {line["key"] for line in lines} | recorded(root)
    for key, (table, run, commit, after, why) in past(root).items():
        if key not in known and not after:
            print(f"{key}: git has nothing in its place yet; commit the recording first")
        elif key not in known:
            values = (key, table, run, commit[:12], after, why)
            lines.append(dict(zip(COLUMNS, values, strict=True)))
    lines = [line for line in lines if line["key"] not in recorded(root)]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted(lines, key=lambda line: (line["table"], line["run"])))
    print(f"{len(lines)} keys")


if __name__ == "__main__":
    main()
