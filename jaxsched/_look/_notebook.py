"""The display of a schedule in a notebook."""

from __future__ import annotations

import html
import itertools
from typing import Any

from jaxsched._core._writing import Written
from jaxsched._look._curve import drawn, labelled
from jaxsched._look._svg import svg

MOST = 7  # largest number of members of a stack to draw


def page(schedule: Any) -> str | None:
    """Return HTML with a picture and the expression, or None to show the text alone.

    A picture must never raise, for example for a schedule of tracers or a user's function that
    raises.
    """
    try:
        members = labelled("plot", schedule)
        first = dict(itertools.islice(members.items(), MOST))
        picture = svg(drawn([first])[0])
        more = f"and {len(members) - MOST} more<br>" * (len(members) > MOST)
    except Exception:
        return None
    return f"<div>{picture}<br>{more}<code>{html.escape(repr(schedule))}</code></div>"


# Notebooks call this method. It is set here, because the base classes do not know about pictures.
Written._repr_html_ = page
