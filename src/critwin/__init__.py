"""critwin tells when a diffusion model makes up its mind.

Names are imported when they are first used, so that ``import critwin`` waits for nothing::

    import critwin as cw

    records = cw.forward_reverse("digits", ["ground", "ink"], [2.0, 0.0, -2.0, -4.0])
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from critwin.experiments.forward_reverse import forward_reverse
    from critwin.experiments.search import search
    from critwin.features.registry import load_feature
    from critwin.models.denoiser import Denoiser
    from critwin.models.registry import load_model
    from critwin.records import Records
    from critwin.runs.folder import open_run
    from critwin.theory.datasets import dataset_transitions
    from critwin.theory.exact import exact_transitions
    from critwin.theory.mixture_trees import mixture_tree
    from critwin.theory.mixtures import GaussianMixture
    from critwin.transitions import Transitions
    from critwin.windows import critical_window

    __version__: str

__all__ = [
    "Denoiser",
    "GaussianMixture",
    "Records",
    "Transitions",
    "__version__",
    "critical_window",
    "dataset_transitions",
    "exact_transitions",
    "forward_reverse",
    "load_feature",
    "load_model",
    "mixture_tree",
    "open_run",
    "search",
]

_HOMES = {
    "Denoiser": "critwin.models.denoiser",
    "GaussianMixture": "critwin.theory.mixtures",
    "Records": "critwin.records",
    "Transitions": "critwin.transitions",
    "critical_window": "critwin.windows",
    "dataset_transitions": "critwin.theory.datasets",
    "exact_transitions": "critwin.theory.exact",
    "forward_reverse": "critwin.experiments.forward_reverse",
    "load_feature": "critwin.features.registry",
    "load_model": "critwin.models.registry",
    "mixture_tree": "critwin.theory.mixture_trees",
    "open_run": "critwin.runs.folder",
    "search": "critwin.experiments.search",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its home (PEP 562)."""
    if name == "__version__":
        from importlib.metadata import version

        return version("critwin")
    if name in _HOMES:
        from importlib import import_module

        value = getattr(import_module(_HOMES[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'critwin' has no attribute {name!r}")


def __dir__() -> list[str]:
    """All public names."""
    return sorted(__all__)
