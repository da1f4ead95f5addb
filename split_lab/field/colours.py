"""The colours of a report. An arm has the same one in every table, figure and report. Pure."""

from __future__ import annotations

from collections.abc import Iterable

# Okabe and Ito's colours, which are told apart without red or green; the arms that most runs have
# keep theirs in every report.
_ARM_COLOURS = {"adaptive": "#0072b2", "oracle": "#111111", "local": "#e69f00", "jpeg": "#cc79a7",
                "raw": "#d55e00", "static": "#009e73", "peer": "#56b4e9"}
_MORE_COLOURS = ("#8c6d31", "#6b7280", "#882255", "#44aa99", "#999933", "#332288")
# Greys and warm tones, none of them an arm's; from dark to light to dark so that neighbours differ.
OUTCOME_COLOURS = {"remote": "#34495e", "local": "#95a5a6", "fallback": "#f0c75e",
                   "dropped": "#c97b84", "failed": "#641e2c"}
OTHER_OUTCOME = "#ded7ef"


def arm_colours(arms: Iterable[str]) -> dict[str, str]:
    """An arm's colour in all plots and in the table; the known ones have their own."""
    more, colours = 0, {}
    for arm in arms:
        if arm in _ARM_COLOURS:
            colours[arm] = _ARM_COLOURS[arm]
        else:
            colours[arm] = _MORE_COLOURS[more % len(_MORE_COLOURS)]
            more += 1
    return colours
