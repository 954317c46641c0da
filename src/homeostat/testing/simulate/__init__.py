"""The seeded simulator: a world of traffic, drift, late labels, people, outages and crashes
around the real control, rollout, monitoring and policy code, in virtual time.

    python -m homeostat.testing.simulate --seeds 1000

faults  ports that fail: a crash between any two calls, outages, lost answers, a second writer
models  the synthetic model family: what a version of a given skill says of a request
world   one seed's world and what happens in it
laws    what must hold after every turn, whatever happened
run     seeds -> outcomes; a broken law is printed as a bug report
"""

from homeostat.testing.simulate.laws import Broken
from homeostat.testing.simulate.run import Outcome, simulate

__all__ = ["Broken", "Outcome", "simulate"]
