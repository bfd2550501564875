"""Mixtures from TOML: ``[[component]]`` tables of ``name, weight, mean, covariance``.

A covariance is a number (isotropic), a list (diagonal) or a matrix; components may differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from critwin._texts import read_toml
from critwin.errors import ConfigError, InputError
from critwin.theory.mixtures import CovarianceKind, GaussianMixture

__all__ = ["mixture_from_dict", "mixture_from_toml"]

_KEYS = ("name", "weight", "mean", "covariance")


def mixture_from_toml(path: str | Path) -> GaussianMixture:
    """Read a mixture from a TOML file.

    Args:
        path: The file.

    Returns:
        The mixture.

    Raises:
        InputError: If the file cannot be read or is not TOML.
        ConfigError: If an entry is not valid; the message names it.
    """
    raw = read_toml(
        path,
        kind="mixture",
        wanted="a TOML file of [[component]] tables",
        next_step="mind that a path starts from the current folder",
    )
    return mixture_from_dict(raw)


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
    if unknown := sorted(set(raw) - {"component"}):
        raise ConfigError(unknown[0], "unknown key", wanted="[[component]] tables only")
    tables = raw.get("component")
    if not isinstance(tables, list) or not tables:
        raise ConfigError("component", "no components", wanted="one or more [[component]] tables")
    for k, table in enumerate(tables):
        if not isinstance(table, Mapping):
            raise ConfigError(f"component[{k}]", "not a table", got=table)
        if unknown := sorted(set(table) - set(_KEYS)):
            raise ConfigError(
                f"component[{k}].{unknown[0]}", "unknown key", wanted=", ".join(_KEYS)
            )
    means = [_vector(table, k) for k, table in enumerate(tables)]
    for k, mean in enumerate(means):
        if len(mean) != len(means[0]):
            raise ConfigError(
                f"component[{k}].mean",
                "means differ in length",
                got=len(mean),
                wanted=f"{len(means[0])} numbers, as in component[0]",
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


def _vector(table: Mapping[str, Any], k: int) -> list[float]:
    key = f"component[{k}].mean"
    if "mean" not in table:
        raise ConfigError(key, "missing", wanted="a number or a list of numbers")
    value = table["mean"]
    numbers = [value] if _is_number(value) else value
    if not isinstance(numbers, list) or not numbers or not all(_is_number(n) for n in numbers):
        raise ConfigError(key, "not a mean", got=value, wanted="a number or a list of numbers")
    return [float(n) for n in numbers]


def _covariances(
    tables: Sequence[Mapping[str, Any]], dim: int
) -> tuple[np.ndarray[Any, Any], CovarianceKind]:
    """All covariances in the most general form that any of them needs."""
    arrays = []
    for k, table in enumerate(tables):
        key = f"component[{k}].covariance"
        value = table.get("covariance", 1.0)
        try:
            array = np.array(value, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ConfigError(
                key, "not a covariance", got=value, wanted="a number, a list or a matrix"
            ) from error
        if isinstance(value, bool) or array.shape not in ((), (dim,), (dim, dim)):
            raise ConfigError(
                key,
                "the covariance does not fit the mean",
                got=f"shape {array.shape}" if array.ndim else value,
                wanted=f"a number, a list of {dim} or a {dim} x {dim} matrix",
            )
        try:  # alone, so that an error names its component
            GaussianMixture(
                means=np.zeros((1, dim)), covariances=array[None], covariance_kind=_kind(array)
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
        if name == "name" and values.count(values[-1]) > 1:
            raise ConfigError(f"component[{k}].name", "used twice", got=values[-1])
    return values


def _weight(key: str, value: Any) -> float:
    if not _is_number(value) or not 0 < value < np.inf:
        raise ConfigError(key, "not a weight", got=value, wanted="a positive number")
    return float(value)


def _name(key: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ConfigError(key, "not a name", got=value, wanted="a string")
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
