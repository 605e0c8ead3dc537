"""Makes a counterexample simple: of what is chosen, as much is 0 as can be."""

import time

from .terms import EQ, EXTRACT, NOT, C, variables

# Seconds for all counterexamples of a harness.
LIMIT = 10


def simplest(machine, violated, until):
    """Returns values that violate. Until the time `until`, the solver is asked again with one variable more
    0, or one of its bits."""
    chosen = [v for v in variables() if machine.sol.knows(v)]
    fixed = []

    def fix(condition):
        can = time.monotonic() < until and machine.sol.sat(violated, *fixed, condition)
        if can:
            fixed.append(condition)
        return can

    for v in chosen:
        if not fix(EQ(v, C(0, v.w))):
            for bit in reversed(range(v.w)):
                fix(NOT(EXTRACT(v, bit, bit)))
    machine.sol.sat(violated, *fixed)
    return {v.k: machine.sol.value(v) for v in chosen}
