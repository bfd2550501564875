"""``critwin compare``: do the windows of two runs or tables differ?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = ["compare"]


def compare(
    first: Annotated[Path, typer.Argument(help="Run folder or table.")],
    second: Annotated[Path, typer.Argument(help="Another; the differences are second - first.")],
    feature: Annotated[
        list[str] | None, typer.Option(help="Feature or product a*b; all unless given.")
    ] = None,
    unit: Annotated[str | None, typer.Option(help="Unit of the tables' levels.")] = None,
    level_column: Annotated[
        str | None, typer.Option(help="Column of the noise level in tables.")
    ] = None,
    after: Annotated[
        list[str] | None, typer.Option(help="Label set A[,B]: compare its operational window.")
    ] = None,
    before: Annotated[
        list[str] | None, typer.Option(help="Larger label set it is chosen from, or all.")
    ] = None,
    epsilon: Annotated[
        float | None, typer.Option(help="Tolerance of --after; .1 unless given.")
    ] = None,
    chance: Annotated[
        float | None, typer.Option(help="Chance level where the prior is unknown.")
    ] = None,
    prior: Annotated[
        list[str] | None, typer.Option(help="Prior of both models, LABEL=SHARE for each label.")
    ] = None,
    where: Annotated[list[str] | None, typer.Option(help="Only rows with COLUMN=VALUE.")] = None,
    confidence: Annotated[float, typer.Option(help="Of the intervals.")] = 0.95,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say whether features are decided at different noise in two runs, paired by source."""
    from critwin.cli._output import print_json, say, table, terminal_width
    from critwin.cli._source import in_options, label_set, open_source, pairs, shares
    from critwin.cli.windows import edge_cell
    from critwin.errors import InputError
    from critwin.overview import compare_tables, difference_in_words

    if after is None and (before is not None or epsilon is not None):
        raise InputError("--before and --epsilon belong to --after", next_step="add --after")
    options: dict[str, Any] = {
        "features": feature,
        "where": pairs(where, name="--where"),
        "prior": shares(pairs(prior, name="--prior")),
    }
    sources = []
    for path in (first, second):
        is_table = path.is_file() and path.suffix.lower() not in (".nc", ".nc4", ".h5")
        own: dict[str, Any] = {"level_column": level_column, "unit": unit} if is_table else {}
        sources.append(open_source(path, **options, **own))
    tables = {**sources[1].tables, **sources[0].tables}
    criterion: dict[str, Any] = {"chance": chance}
    if after is not None:
        criterion = {
            "criterion": "operational",
            "after": label_set(after, tables),
            "before": label_set(before, tables),
            "epsilon": 0.1 if epsilon is None else epsilon,
        }
    differences, reasons = compare_tables(
        sources[0].tables, sources[1].tables, confidence=confidence, **criterion
    )
    reasons = {name: in_options(why) for name, why in reasons.items()}
    reasons = {**sources[0].reasons, **sources[1].reasons, **reasons}
    if not differences:
        name, why = next(iter(reasons.items()))
        raise InputError(f"{name}: cannot be compared: {why}")
    words = {name: difference_in_words(d) for name, d in differences.items()}
    audits = _audits(first, second)
    if as_json:
        print_json(
            {
                "first": str(first),
                "second": str(second),
                "differences": {
                    name: {**d.as_dict(), "sentences": words[name]}
                    for name, d in differences.items()
                },
                "reasons": reasons,
                "audits": audits,
            }
        )
        return
    for name, source in zip(("first", "second"), sources, strict=True):
        say(f"{name}: {source.describe()}")
    names = ("midpoint", "start", "end", "width") if after is None else ("t_after", "t_before")
    rows = [("feature", "edge", "first t", "second t", "second - first")]
    for feature_name, d in differences.items():
        rows += [
            (
                feature_name,
                name,
                edge_cell(getattr(d.first, name), "t"),
                edge_cell(getattr(d.second, name), "t"),
                edge_cell(getattr(d, name), "t"),
            )
            for name in names
        ]
    say(table(rows, width=terminal_width()))
    shared = max(d.num_shared for d in differences.values())
    if shared:
        say(f"{shared} sources are in both: differences are paired by source.")
    for name, sentences in words.items():
        for sentence in sentences:
            say(f"{name}: {sentence}")
    for name, why in reasons.items():
        say(f"{name}: cannot be compared: {why}")
    for name, sides in audits.items():
        say(f"{name}: {sides['question']}")
        for side in ("first", "second"):
            stale = " (more has been measured since)" if sides[side]["is_stale"] else ""
            say(f"  {side}: {sides[side]['answer']}{stale}")


def _audits(first: Path, second: Path) -> dict[str, dict[str, Any]]:
    """What audits of the same name say of two run folders, side by side."""
    from critwin.audits.section import load_all
    from critwin.runs.folder import is_run_folder, open_run

    if not (is_run_folder(first) and is_run_folder(second)):
        return {}
    found = [(load_all(path), open_run(path).digest()) for path in (first, second)]
    out = {}
    for name in found[0][0]:
        if name not in found[1][0]:
            continue
        sides: dict[str, Any] = {"question": found[0][0][name]["section"].question}
        for side, (contents, digest) in zip(("first", "second"), found, strict=True):
            content = contents[name]
            sides[side] = {
                "answer": content["section"].answer,
                "result": content["result"],
                "is_stale": content["ledger_digest"] != digest,
            }
        out[name] = sides
    return out
