"""Any callable as a feature, or as a comparison of source and result.

A function may return label names, integer indices, or a matrix of label probabilities, as a list,
a NumPy array or a torch tensor. What it returns is checked; an answer that is not a label is an
error, not a guess.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any

import numpy as np

from critwin.errors import InputError
from critwin.features._inputs import check_names, to_numpy
from critwin.features.base import Reading
from critwin.features.fingerprints import fingerprint_of
from critwin.records import ABSTAIN

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["FunctionComparison", "FunctionFeature"]


@dataclass(frozen=True, eq=False)
class FunctionFeature:
    """A callable that labels samples.

    Attributes:
        name: Name of the feature.
        labels: Names of the labels it may return.
        function: Takes images ``(N, C, H, W)`` in ``[0, 1]`` or points ``(N, D)`` as they come
            (NumPy or torch) and returns, for each of the N samples, a label name (None abstains),
            an index into ``labels`` (-1 abstains; booleans count as 0 and 1), or a row of label
            probabilities ``(N, J)``. It must not look at other rows.
        abstain_below: With probabilities, abstain where the largest is below this.
        version: Stated version of the function, part of the fingerprint. Needed where the
            function's own text says too little: it reads a file, a global or another module.

    Raises:
        InputError: If a name cannot be used, the function is not callable, or nothing about it
            can be put into a fingerprint and no ``version`` is given.
    """

    name: str
    labels: tuple[str, ...]
    function: Callable[[Any], Any]
    abstain_below: float = 0.0
    version: str | None = None

    def __post_init__(self) -> None:
        """Check the options."""
        object.__setattr__(self, "labels", check_names(self.name, self.labels))
        _check_callable(self.name, self.function)
        if not 0 <= self.abstain_below <= 1:
            raise InputError(
                "abstain_below is out of range", got=self.abstain_below, wanted="a share in [0, 1]"
            )
        _ = self.fingerprint  # refuse now what could not be resumed later

    @property
    def fingerprint(self) -> str:
        """Digest of names, options, stated version and the function's own text and constants."""
        return fingerprint_of(
            "function/1",
            name=self.name,
            labels=self.labels,
            abstain_below=self.abstain_below,
            version=self.version,
            function=describe_callable(self.name, self.function, self.version),
        )

    def read(self, samples: Any) -> Reading:
        """Call the function and check its answer.

        Args:
            samples: Images or points, handed over as they are.

        Returns:
            The reading, with probabilities if the function returned them.

        Raises:
            InputError: If a label is unknown, an answer is NaN, or the shape fits none of the
                three forms.
        """
        answer = self.function(samples)
        if isinstance(answer, Reading):
            return answer
        if isinstance(answer, list | tuple) and any(
            isinstance(a, str) or a is None for a in answer
        ):
            return Reading(indices=self._by_name(list(answer)))
        array = to_numpy(answer)
        if array.dtype.kind in "OUT" and array.ndim == 1:
            return Reading(indices=self._by_name(array.tolist()))
        if array.ndim == 2 and array.dtype.kind == "f":
            return self._by_probs(array)
        if array.ndim == 1 and array.dtype.kind in "biu":
            return Reading(indices=array.astype(np.int64))
        raise InputError(
            f"the function of feature {self.name!r} returned something that is no label",
            got=f"{array.dtype} of shape {array.shape}"
            + (", with NaN" if array.dtype.kind == "f" and np.isnan(array).any() else ""),
            wanted="N label names, N integer indices, or (N, J) probabilities",
            next_step="return one of these",
        )

    def _by_name(self, names: list[Any]) -> NDArray[np.int64]:
        index: dict[Any, int] = {label: j for j, label in enumerate(self.labels)}
        index[None] = ABSTAIN
        for name in names:
            if not (name is None or isinstance(name, str)) or name not in index:
                raise InputError(
                    f"the function of feature {self.name!r} returned an unknown label",
                    got=name,
                    wanted=f"one of {', '.join(self.labels)}, or None to abstain",
                    next_step="add the label to `labels`, or return None",
                )
        return np.array([index[name] for name in names], dtype=np.int64)

    def _by_probs(self, probs: NDArray[Any]) -> Reading:
        if probs.shape[1] != len(self.labels):
            raise InputError(
                f"the function of feature {self.name!r} returned the wrong number of columns",
                got=probs.shape[1],
                wanted=f"{len(self.labels)}, one a label",
            )
        # NaN is not hidden by abstaining: an all-NaN row must be refused, so it keeps a label
        is_vague = np.max(np.nan_to_num(probs, nan=1.0), axis=1) < self.abstain_below
        best = np.argmax(np.nan_to_num(probs, nan=-1.0), axis=1)
        return Reading(indices=np.where(is_vague, ABSTAIN, best), probs=probs)


@dataclass(frozen=True, eq=False)
class FunctionComparison:
    """A callable that compares sources with their forward–reverse images.

    Attributes:
        name: Name of the comparison, and of the number if the function returns a single one.
        function: Takes sources and results, each ``(N, …)``, and returns N numbers or a mapping
            from names to N numbers each.
        version: Stated version, as in :class:`FunctionFeature`.

    Raises:
        InputError: As in :class:`FunctionFeature`.
    """

    name: str
    function: Callable[[Any, Any], Any]
    version: str | None = None

    def __post_init__(self) -> None:
        """Check the options."""
        check_names(self.name, ("value",))
        _check_callable(self.name, self.function)
        _ = self.fingerprint

    @property
    def fingerprint(self) -> str:
        """Digest of name, stated version and the function's own text and constants."""
        return fingerprint_of(
            "comparison/1",
            name=self.name,
            version=self.version,
            function=describe_callable(self.name, self.function, self.version),
        )

    def read(self, source: Any, result: Any) -> Mapping[str, NDArray[np.float64]]:
        """Call the function.

        Args:
            source: Samples, shape ``(N, …)``.
            result: Their forward–reverse images.

        Returns:
            Named numbers, each of shape ``(N,)``.
        """
        answer = self.function(source, result)
        named = answer if isinstance(answer, Mapping) else {self.name: answer}
        return {str(key): to_numpy(value).astype(np.float64) for key, value in named.items()}


def _check_callable(name: str, function: Any) -> None:
    if not callable(function):
        raise InputError(
            f"the function of {name!r} cannot be called",
            got=type(function).__name__,
            wanted="a callable",
        )


def describe_callable(name: str, function: Any, version: str | None) -> Any:
    """What can be known of a callable: its text, its constants, the weights of a module.

    Args:
        name: What it belongs to, for the message.
        function: The callable.
        version: Its stated version, if it has one.

    Returns:
        Plain values for a fingerprint.

    Raises:
        InputError: If nothing is known and no version is stated.
    """
    if isinstance(function, functools.partial):
        inner = describe_callable(name, function.func, version)
        return ["partial", inner, _plain(list(function.args)), _plain(dict(function.keywords))]
    if isinstance(function, MethodType):
        return [
            "method",
            describe_callable(name, function.__func__, version),
            _plain(function.__self__),
        ]
    if isinstance(function, FunctionType):
        cells = [_plain(cell.cell_contents) for cell in function.__closure__ or ()]
        return [
            function.__qualname__,
            _text(function),
            _plain(list(function.__defaults__ or ())),
            _plain(dict(function.__kwdefaults__ or {})),
            cells,
        ]
    if hasattr(function, "state_dict"):
        return [type(function).__qualname__, _text(type(function)), dict(function.state_dict())]
    if version is None:
        raise InputError(
            f"nothing about the function of {name!r} can be put into a fingerprint",
            got=type(function).__name__,
            wanted="a Python function, a torch module, or a stated version",
            next_step="pass version='1' and change it whenever the function changes",
        )
    return type(function).__qualname__


def _text(thing: Any) -> Any:
    """Source text; of a function typed at a prompt, its code."""
    try:
        return inspect.getsource(thing)
    except (OSError, TypeError):
        code = getattr(thing, "__code__", None)
        if code is None:
            return thing.__qualname__
        return [code.co_code, repr(code.co_names), _plain(list(code.co_consts))]


def _plain(value: Any) -> Any:
    """Keep plain values, arrays and module weights; name everything else by its type."""
    if value is None or isinstance(value, bool | int | float | str | bytes | np.ndarray):
        return value
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if hasattr(value, "state_dict"):
        return [type(value).__qualname__, dict(value.state_dict())]
    if hasattr(value, "detach"):
        return value
    if isinstance(value, FunctionType):
        return [value.__qualname__, _text(value)]
    if hasattr(value, "co_code"):
        return [value.co_code, repr(value.co_names), _plain(list(value.co_consts))]
    return type(value).__qualname__
