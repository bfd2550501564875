"""The search that an experiment file asks for."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Any

from critwin._texts import plain_number
from critwin.errors import ConfigError, InputError
from critwin.estimates import plain
from critwin.experiments.search_results import results_of
from critwin.experiments.search_session import SearchOptions, SearchSession

if TYPE_CHECKING:
    from critwin.experiments.spec import Spec
    from critwin.runs.prepare import Prepared

__all__ = ["search_of", "search_summary"]


def search_of(prepared: Prepared, spec: Spec) -> SearchSession | None:
    """The search of an experiment file, at its beginning.

    Args:
        prepared: The loaded experiment file.
        spec: Its choices.

    Returns:
        The search; None if the levels are fixed.

    Raises:
        ConfigError: If it cannot be made.
    """
    section = prepared.config.search
    if section is None:
        return None
    try:
        options = SearchOptions(
            targets=section.targets, half_width=section.half_width, budget=section.budget
        )
        session = SearchSession(prepared.model, prepared.features, spec, options)
        if not session.decider.next_round():
            raise InputError(
                "the budget does not pay for a single batch",
                got=None if section.budget is None else plain_number(section.budget),
                wanted=f"at least {ceil(session.decider.least_budget())} evaluations",
                next_step="raise the budget, or make batch_size smaller",
            )
        return session
    except ConfigError:
        raise
    except InputError as error:
        raise ConfigError(
            "search", error.what, got=error.got, wanted=error.wanted, next_step=error.next_step
        ) from error


def search_summary(search: SearchSession) -> dict[str, Any]:
    """What a search found, as plain values.

    Args:
        search: A search that has ended.

    Returns:
        Targets, the reason why it ended, evaluations and rounds.
    """
    decider = search.decider
    return {
        "targets": plain(list(results_of(decider))),
        "reason": decider.reason,
        "evaluations": decider.spent,
        "rounds": len(decider.trace),
    }
