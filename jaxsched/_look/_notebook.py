"""A schedule as a notebook shows it."""

from __future__ import annotations

import html
import itertools
from typing import Any

from jaxsched._core._writing import Written
from jaxsched._look._curve import drawn, labelled
from jaxsched._look._svg import svg

MOST = 7  # members of a stack that are drawn


def page(schedule: Any) -> str | None:
    """The picture and the expression, or None where there is no picture: then the text is shown.

    A picture is no reason to fail: not for a schedule of tracers, or for somebody's function that
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


# A notebook asks for this method. What is shown needs pictures, of which the classes know nothing.
Written._repr_html_ = page
