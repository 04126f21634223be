"""Exact yardsticks of an instance and of a deal in it. Pure functions, usable alone.

    from peira.families.negotiation.yardsticks import measure, solutions

`solutions(game)` gives the frontier and the solution points; `measure(game, allocation)` compares a
deal (or no deal, `None`) with them. Exact by dynamic programming for n ≤ 3, and for n = 4 with
m ≤ 12; by mixed-integer programming (HiGHS) beyond, where the frontier itself is not listed.
"""

from peira.families.negotiation.yardsticks.alternating import subgame_perfect
from peira.families.negotiation.yardsticks.deal import Yardsticks, measure
from peira.families.negotiation.yardsticks.frontier import Frontier, non_dominated, pareto_frontier
from peira.families.negotiation.yardsticks.solutions import Solutions, solutions

__all__ = [
    "Frontier",
    "Solutions",
    "Yardsticks",
    "measure",
    "non_dominated",
    "pareto_frontier",
    "solutions",
    "subgame_perfect",
]
