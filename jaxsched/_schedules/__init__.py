"""Schedules: the base class, the operators, and every curve, decay and recipe.

The files imported here register what operators and methods of `Schedule` build.
"""

from jaxsched._schedules import _chain as _chain
from jaxsched._schedules import _combined as _combined
from jaxsched._schedules import _integer as _integer
from jaxsched._schedules import _mapped as _mapped
from jaxsched._schedules import _on as _on
from jaxsched._schedules import _power as _power
from jaxsched._schedules import _proportional as _proportional
from jaxsched._schedules import _restarts as _restarts
from jaxsched._schedules import _retimed as _retimed
