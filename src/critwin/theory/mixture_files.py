"""Mixtures from TOML: ``[[component]]`` tables of ``name, weight, mean, covariance``.

A covariance is a number (isotropic), a list (diagonal) or a matrix; components may differ::

    [[component]]
    name = "cat"
    weight = 0.25
    mean = [0.0, 1.0]
    covariance = [[1.0, 0.5], [0.5, 1.0]]
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from critwin._texts import did_you_mean, read_toml, some_of
from critwin.errors import ConfigError, InputError
from critwin.theory._law import LARGEST
from critwin.theory.mixtures import CovarianceKind, GaussianMixture

__all__ = ["mixture_from_dict", "mixture_from_toml"]

_KEYS = ("name", "weight", "mean", "covariance")
_TABLES = f"[[component]] tables of {', '.join(_KEYS)}"
_HELP = "`critwin theory --help` shows a file"


def mixture_from_toml(path: str | Path) -> GaussianMixture:
    """Read a mixture from a TOML file.

    Args:
        path: The file.

    Returns:
        The mixture.

    Raises:
        InputError: If the file cannot be read or is not TOML.
        ConfigError: If an entry is not valid; the message names the file and the entry.
    """
    raw = read_toml(
        path,
        kind="mixture",
        wanted="a TOML file of [[component]] tables",
        next_step="mind that a path starts from the current folder",
    )
    try:
        return mixture_from_dict(raw)
    except ConfigError as error:
        named = InputError(
            f"{Path(path).name}: {error.what}",
            got=error.got,
            wanted=error.wanted,
            next_step=error.next_step,
        )
        error.what, error.args = named.what, named.args
        raise


def mixture_from_dict(raw: Mapping[str, Any]) -> GaussianMixture:
    """Build a mixture from parsed TOML or JSON, refusing keys that nobody reads.

    Args:
        raw: ``{"component": [{"name", "weight", "mean", "covariance"}, …]}``. Names and weights
            are given for all components or for none (then ``"0"``, ``"1"``, … and equal); a
            covariance that is missing is 1.

    Returns:
        The mixture.

    Raises:
        ConfigError: If an entry is missing, unknown or not valid; ``key`` names it.
    """
    if unknown := [key for key in raw if key != "component"]:
        raise _unknown_key(unknown, ("component",), wanted=_TABLES)
    tables = raw.get("component")
    if isinstance(tables, Mapping):
        raise ConfigError(
            "component",
            "a single table",
            got="[component]",
            wanted="[[component]] in two brackets, once for each component",
            next_step=_HELP,
        )
    if not isinstance(tables, list) or not tables:
        raise ConfigError("component", "no components", wanted=_TABLES, next_step=_HELP)
    for k, table in enumerate(tables):
        if not isinstance(table, Mapping):
            raise ConfigError(
                f"component[{k}]", "not a table", got=table, wanted=_TABLES, next_step=_HELP
            )
        if unknown := [key for key in table if key not in _KEYS]:
            raise _unknown_key(
                unknown, _KEYS, wanted=f"some of {', '.join(_KEYS)}", place=f"component[{k}]."
            )
    means = [_vector(table, k) for k, table in enumerate(tables)]
    for k, mean in enumerate(means):
        if len(mean) != len(means[0]):
            raise ConfigError(
                f"component[{k}].mean",
                "means differ in length",
                got=len(mean),
                wanted=f"{len(means[0])}, as in component[0]",
            )
    covariances, kind = _covariances(tables, len(means[0]))
    weights = _all_or_none(tables, "weight", _weight)
    names = _all_or_none(tables, "name", _name)
    try:
        return GaussianMixture(
            weights=weights,
            means=means,
            covariances=covariances,
            names=names,
            covariance_kind=kind,
        )
    except InputError as error:  # each entry was checked; what is left is the sum of weights
        raise ConfigError(
            "component.weight",
            error.what,
            got=error.got,
            wanted=error.wanted,
            next_step=error.next_step,
        ) from error


def _unknown_key(
    unknown: Sequence[str], known: Sequence[str], *, wanted: str, place: str = ""
) -> ConfigError:
    """The key that is most likely a slip, and the one it was meant to be."""
    meant = next((key for key in unknown if did_you_mean(key, known)), unknown[0])
    return ConfigError(
        place + meant,
        "unknown key" if len(unknown) == 1 else f"unknown keys {some_of(unknown)}",
        wanted=wanted,
        next_step=did_you_mean(meant, known) or _HELP,
    )


def _vector(table: Mapping[str, Any], k: int) -> list[float]:
    key = f"component[{k}].mean"
    if "mean" not in table:
        raise ConfigError(key, "missing", wanted="a number or a list of numbers", next_step=_HELP)
    value = table["mean"]
    numbers = [value] if _is_number(value) else value
    wanted = "a finite number or a list of them, one for each dimension"
    if not isinstance(numbers, list) or not numbers:
        raise ConfigError(key, "not a mean", got=value, wanted=wanted)
    for n in numbers:
        if _is_number(n) and abs(n) > LARGEST:
            raise ConfigError(
                key,
                "too large",
                got=n,
                wanted=f"at most {LARGEST:g}",
                next_step="measure in a larger unit",
            )
        if not _is_number(n):
            raise ConfigError(
                key, "not a mean", got=n if numbers is value else value, wanted=wanted
            )
    return [float(n) for n in numbers]


def _covariances(
    tables: Sequence[Mapping[str, Any]], dim: int
) -> tuple[np.ndarray[Any, Any], CovarianceKind]:
    """All covariances in the most general form that any of them needs."""
    arrays = []
    for k, table in enumerate(tables):
        key = f"component[{k}].covariance"
        value = table.get("covariance", 1.0)
        if odd := [n for n in _flat(value) if not _is_number(n)]:
            raise ConfigError(
                key, "not a covariance", got=odd[0], wanted="a finite number, a list or a matrix"
            )
        try:
            array = np.array(value, dtype=np.float64)
        except ValueError as error:
            raise ConfigError(
                key,
                "not a covariance",
                got=value,
                wanted="a number, a list or a matrix with rows of one length",
            ) from error
        if array.shape not in ((), (dim,), (dim, dim)):
            raise ConfigError(
                key,
                "the covariance does not fit the mean",
                got=f"{array.shape[0]} numbers" if array.ndim == 1 else f"shape {array.shape}",
                wanted=f"a number, a list of {dim} or a {dim} x {dim} matrix",
            )
        try:  # alone, so that an error names its component
            GaussianMixture(
                means=np.zeros((1, dim)), covariances=array, covariance_kind=_kind(array)
            )
        except InputError as error:
            raise ConfigError(
                key, error.what, got=error.got, wanted=error.wanted, next_step=error.next_step
            ) from error
        arrays.append(array)
    top = max(array.ndim for array in arrays)
    if top >= 1:
        arrays = [a * np.ones(dim) if a.ndim == 0 else a for a in arrays]
    if top == 2:
        arrays = [np.diag(a) if a.ndim == 1 else a for a in arrays]
    return np.stack(arrays), _kind(arrays[0])


def _kind(array: np.ndarray[Any, Any]) -> CovarianceKind:
    kinds: tuple[CovarianceKind, ...] = ("isotropic", "diagonal", "full")
    return kinds[array.ndim]


def _all_or_none(tables: Sequence[Mapping[str, Any]], name: str, read: Any) -> list[Any] | None:
    given = [k for k, table in enumerate(tables) if name in table]
    if not given:
        return None
    for k, table in enumerate(tables):
        if name not in table:
            raise ConfigError(
                f"component[{k}].{name}",
                "missing",
                wanted=f"a {name} for every component, or for none",
            )
    values = []
    for k, table in enumerate(tables):
        values.append(read(f"component[{k}].{name}", table[name]))
        if name == "name" and (first := values.index(values[-1])) < k:
            raise ConfigError(
                f"component[{k}].name",
                "used twice",
                got=f"{values[-1]!r}, as component[{first}]",
                wanted="distinct names",
            )
    return values


def _weight(key: str, value: Any) -> float:
    if not _is_number(value) or not value > 0:
        raise ConfigError(key, "not a weight", got=value, wanted="a positive number")
    return float(value)


def _name(key: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ConfigError(key, "not a name", got=repr(value), wanted="text that is not empty")
    return value


def _flat(value: Any) -> list[Any]:
    """All entries of nested lists."""
    return [n for item in value for n in _flat(item)] if isinstance(value, list) else [value]


def _is_number(value: Any) -> bool:
    """Whether it is a number that float64 holds; a Boolean is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= sys.float_info.max  # false for NaN, and for huge whole numbers
