"""Components beyond Gaussians: log-concave products, outlines, and densities on a grid.

Importing the package registers its mixtures with :mod:`critwin.theory.distances`.
"""

from critwin.theory.log_concave import distances as _registered  # noqa: F401
from critwin.theory.log_concave.densities import Density, affine, log_concave_density
from critwin.theory.log_concave.families import (
    gaussian,
    skew_normal,
    tilted_gaussian,
    truncated_gaussian,
)
from critwin.theory.log_concave.grids import GridMixture, grid_transitions
from critwin.theory.log_concave.merely import (
    generalized_normal,
    gumbel,
    laplace,
    logistic,
    uniform,
)
from critwin.theory.log_concave.outlined import OutlinedMixture, outline_from_samples
from critwin.theory.log_concave.pairs import component_wasserstein, pair_brackets
from critwin.theory.log_concave.products import ProductMixture, as_product
from critwin.theory.log_concave.registry import density, list_densities
from critwin.theory.log_concave.transitions import product_transitions

__all__ = [
    "Density",
    "GridMixture",
    "OutlinedMixture",
    "ProductMixture",
    "affine",
    "as_product",
    "component_wasserstein",
    "density",
    "gaussian",
    "generalized_normal",
    "grid_transitions",
    "gumbel",
    "laplace",
    "list_densities",
    "log_concave_density",
    "logistic",
    "outline_from_samples",
    "pair_brackets",
    "product_transitions",
    "skew_normal",
    "tilted_gaussian",
    "truncated_gaussian",
    "uniform",
]
