"""``critwin dataset``: the windows that a labelled data set predicts, without any model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from critwin.theory.dataset_files import LabelledData
    from critwin.theory.datasets import DatasetPrediction
    from critwin.transitions import Transitions
    from critwin.trees import MixtureTree
    from critwin.windows import CriticalWindow

__all__ = ["dataset"]

_MOST_LABELS = 100  # of a tree
_MOST_LEVELS = 1000
_DEVICES = ("cpu", "cuda", "mps", "xpu")


def dataset(
    file: Annotated[
        Path,
        typer.Argument(
            help=".npz, Parquet or CSV of embeddings, or a folder of images (metadata.csv or a "
            "subfolder a class)."
        ),
    ],
    label: Annotated[
        list[str] | None, typer.Option(help="Column of labels; all unless given.")
    ] = None,
    leave_one_out: Annotated[
        bool | None,
        typer.Option(
            "--leave-one-out/--no-leave-one-out",
            help="Also without the source itself; where it can be done unless given.",
        ),
    ] = None,
    levels: Annotated[
        list[str] | None,
        typer.Option(help="FROM:TO:COUNT in --unit; where the curves fall unless given."),
    ] = None,
    unit: Annotated[str, typer.Option(help="Unit of --levels.")] = "t",
    queries: Annotated[
        int | None,
        typer.Option(min=1, max=10_000_000, help="Points noised; up to 2,000 unless given."),
    ] = None,
    points: Annotated[
        str | None, typer.Option(help="Array or column of the points, where it is not plain.")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="Column that says how often each point counts.")
    ] = None,
    size: Annotated[
        int | None, typer.Option(help="Resize the images of a folder to SIZE x SIZE pixels.")
    ] = None,
    epsilon: Annotated[
        float, typer.Option(help="Tolerance of the trees of labels, in (0, 1).")
    ] = 0.1,
    confidence: Annotated[float, typer.Option(help="Of the intervals.")] = 0.95,
    seed: Annotated[int, typer.Option(help="Seed of the noise.")] = 0,
    device: Annotated[
        str, typer.Option(help="Where it is computed: cpu, cuda, cuda:1, …")
    ] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say when a perfect model of a labelled data set would decide each label."""
    from critwin.cli._output import print_json, say
    from critwin.errors import InputError
    from critwin.theory.dataset_files import read_dataset
    from critwin.theory.datasets import dataset_prediction, suggest_levels
    from critwin.trees import transitions_tree

    if not 0 < confidence < 1:
        raise InputError("confidence is out of range", got=confidence, wanted="between 0 and 1")
    if not 0 < epsilon < 1:
        raise InputError("epsilon is out of range", got=epsilon, wanted="between 0 and 1")
    _check_device(device)
    if levels is None and unit != "t":
        raise InputError(
            "--unit without --levels", got=f"--unit {unit}", wanted="the levels it is the unit of"
        )
    chosen = None if levels is None else _levels(levels, unit)
    data = read_dataset(file, labels=label, points=points, weights=weights, size=size)
    logsnr = (
        suggest_levels(data.points, data.labels, weights=data.weights, seed=seed, device=device)
        if chosen is None
        else chosen
    )
    found = dataset_prediction(
        data.points,
        data.labels,
        logsnr,
        weights=data.weights,
        leave_one_out=leave_one_out is not False,
        num_queries=min(len(data.points), 2000) if queries is None else queries,
        seed=seed,
        device=device,
    )
    found = _without_chance(found)
    if leave_one_out and found.reasons:
        raise InputError(
            next(iter(found.reasons.values())),
            next_step="merge labels, or do without --leave-one-out",
        )
    trees = {
        name: transitions_tree(tr, epsilon)
        for name, tr in found.transitions.items()
        if len(tr.before) <= _MOST_LABELS
    }
    if as_json:
        print_json(_facts(file, data, found, trees, confidence))
        return
    for line in _lines(file, data, found, trees, confidence):
        say(line)


def _levels(options: list[str], unit: str) -> NDArray[np.float64]:
    """One or more ranges as decreasing logsnr, each level once."""
    import numpy as np

    from critwin.errors import InputError
    from critwin.levels import grid, to_logsnr

    wanted = "FROM:TO:COUNT, or one level"
    parts = []
    for option in options:
        cells = option.split(":")
        try:
            ends = [float(cell) for cell in cells[:2]]
            count = int(cells[2]) if len(cells) == 3 else 1
            if len(cells) not in (1, 3):
                raise ValueError
        except ValueError:
            raise InputError(
                "--levels cannot be read", got=option or "nothing", wanted=wanted
            ) from None
        if len(cells) == 3 and not 2 <= count <= _MOST_LEVELS:
            raise InputError(
                "--levels: COUNT is out of range",
                got=option,
                wanted=f"from 2 to {_MOST_LEVELS} levels",
            )
        parts.append(
            to_logsnr(ends, unit) if len(cells) == 1 else grid(ends[0], ends[1], count, unit=unit)
        )
    logsnr = -np.unique(-np.concatenate(parts))
    if len(logsnr) < 2:
        raise InputError(
            "a window needs at least two levels",
            got=", ".join(options),
            wanted=f"{wanted}, several times",
        )
    return np.asarray(logsnr)


def _check_device(name: str) -> None:
    import torch

    from critwin._texts import did_you_mean
    from critwin.errors import InputError

    if name.partition(":")[0] not in _DEVICES:
        raise InputError(
            "unknown device",
            got=name if name.strip() else repr(name),
            wanted=f"one of {', '.join(_DEVICES)}, or cuda:1 for the second of them",
            next_step="an NVIDIA GPU is cuda"
            if "gpu" in name.lower()
            else did_you_mean(name, _DEVICES),
        )
    try:
        torch.zeros(1, dtype=torch.float64, device=name)
    except (RuntimeError, AssertionError, TypeError, NotImplementedError):
        raise InputError(
            "this device is not there",
            got=name,
            wanted="cpu, or a device that PyTorch sees and that knows float64",
            next_step="leave --device out",
        ) from None


def _without_chance(found: DatasetPrediction) -> DatasetPrediction:
    """The prediction, with a reason for tables in which a label is kept no more than by chance."""
    from dataclasses import replace

    from critwin.quantities import chance

    reasons, left_out = dict(found.reasons), dict(found.leave_one_out)
    for name, tr in found.leave_one_out.items():
        if tr.plateau is not None and tr.plateau <= chance(tr):
            del left_out[name]
            reasons[name] = (
                f"leave-one-out of {name!r} has nothing to lose: nearest neighbours share it in "
                f"{tr.plateau:.1%} of cases, no more than by chance ({chance(tr):.1%})"
            )
    return replace(found, reasons=reasons, leave_one_out=left_out)


def _window(tr: Transitions, confidence: float) -> CriticalWindow:
    from critwin.windows import critical_window

    return critical_window(tr, confidence=confidence)


def _facts(
    file: Path,
    data: LabelledData,
    found: DatasetPrediction,
    trees: Mapping[str, MixtureTree],
    confidence: float,
) -> dict[str, Any]:
    import numpy as np

    from critwin.levels import from_logsnr
    from critwin.quantities import chance, kept

    def table(tr: Transitions | None) -> dict[str, Any] | None:
        if tr is None:
            return None
        errors = np.zeros_like(tr.probs) if tr.stderr is None else tr.stderr
        return {
            "window": _window(tr, confidence).as_dict(),
            "labels": list(tr.before),
            "weights": tr.weights,
            "chance": chance(tr),
            "plateau": tr.plateau,
            "kept": kept(tr),
            "transitions": [
                {"t": t, "logsnr": level, "matrix": matrix, "stderr": error}
                for t, level, matrix, error in zip(tr.t, tr.logsnr, tr.probs, errors, strict=True)
            ],
        }

    curve = found.collapse
    return {
        "file": str(file),
        "num_points": curve.num_points,
        "dim": curve.dim,
        "notes": list(data.notes),
        "levels": {
            "t": curve.t,
            "logsnr": curve.logsnr,
            "sigma": from_logsnr(curve.logsnr, "sigma"),
        },
        "labels": {
            name: {
                "posterior": table(tr),
                "leave_one_out": table(found.leave_one_out.get(name)),
                "reason": found.reasons.get(name),
                "tree": trees[name].as_dict() if name in trees else None,
            }
            for name, tr in found.transitions.items()
        },
        "collapse": {
            "source_weight": curve.source_weight,
            "source_weight_stderr": curve.source_weight_stderr,
            "same_point": curve.same_point,
            "same_point_stderr": curve.same_point_stderr,
            "entropy": curve.entropy,
            "excess_entropy": curve.excess_entropy,
            "half": _plain(curve.half(confidence=confidence)),
        },
        "speciation": {
            "top_variance": found.speciation.top_variance,
            "t": found.speciation.t,
            "t_plus": found.speciation.t_plus,
            "reason": found.speciation.reason,
        },
        "settings": dict(found.attrs),
    }


def _plain(value: Any) -> Any:
    from critwin.estimates import plain

    return plain(value)


def _lines(
    file: Path,
    data: LabelledData,
    found: DatasetPrediction,
    trees: Mapping[str, MixtureTree],
    confidence: float,
) -> list[str]:
    from critwin.cli._output import table
    from critwin.cli.windows import edge_cell
    from critwin.levels import from_logsnr
    from critwin.quantities import kept

    curve = found.collapse
    lines = [
        f"{file}: {curve.num_points:,} points, {curve.dim:,} "
        f"{'coordinate' if curve.dim == 1 else 'coordinates'}, "
        f"{found.attrs['num_queries']:,} noised points at {len(curve.logsnr)} levels"
    ]
    lines += [f"note: {note}" for note in data.notes]
    if repeated := found.attrs["num_repeated_points"]:
        lines.append(
            f"note: {repeated} points equal an earlier one; leave-one-out keeps those (give "
            "repeats as --weights to leave them out)"
        )
    rows = [("label", "source", "midpoint t", "width t", "midpoint logsnr", "plateau")]
    for name, tr in found.transitions.items():
        for word, one in (("among", tr), ("left out", found.leave_one_out.get(name))):
            if one is None:
                continue
            window = _window(one, confidence)
            rows.append(
                (
                    name,
                    word,
                    edge_cell(window.midpoint, "t"),
                    edge_cell(window.width, "t"),
                    edge_cell(window.midpoint, "logsnr"),
                    f"{one.plateau:.3f}",
                )
            )
    lines.append(table(rows))
    lines += [f"{name}: {why}" for name, why in found.reasons.items()]
    lines += [
        f"{name}: tree at epsilon {tree.epsilon:g}: {tree.describe()}"
        for name, tree in trees.items()
    ]
    half = curve.half(confidence=confidence)
    where = (
        f"at t {edge_cell(half, 't')}" if half.t.value is not None else f"nowhere: {half.t.reason}"
    )
    lines.append(f"collapse: two posterior draws name the same point half of the time {where}")
    split = found.speciation
    lines.append(
        f"speciation: largest variance {split.top_variance:.6g}, "
        + (f"t_S {split.t:.5g}" if split.t is not None else f"no t_S ({split.reason})")
        + f"; 1/2 ln(1 + it) {split.t_plus:.5g}"
    )
    head = ["t", "logsnr", "sigma"]
    columns = [curve.t, curve.logsnr, from_logsnr(curve.logsnr, "sigma")]
    for name, tr in found.transitions.items():
        head.append(f"kept {name}")
        columns.append(kept(tr))
        if (one := found.leave_one_out.get(name)) is not None:
            head.append("left out")
            columns.append(kept(one))
    head += ["same point", "entropy"]
    columns += [curve.same_point, curve.entropy]
    cells = [
        (f"{row[0]:.4g}", *(f"{round(float(v), 3) + 0.0:.3f}" for v in row[1:]))
        for row in zip(*columns, strict=True)
    ]
    lines.append(table([tuple(head), *cells]))
    lines.append(
        f'[low, high]: {confidence:.0%} intervals of the noise drawn here. "left out": the '
        "posterior may not name the source; kept is relative to what nearest neighbours keep."
    )
    if (error := found.attrs.get("float32_error")) is not None:
        lines.append(f"largest difference from float64 on a subsample: {error:.1e}")
    return lines
