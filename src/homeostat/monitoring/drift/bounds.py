"""How far apart two samples of one distribution can be, and what is shown beyond that.

Every bound answers one question: which distance between the two *distributions* do the samples
prove, at level alpha? The null hypothesis is "the distance is at most the minimum effect", so a
huge sample does not make a tiny movement an alarm.
"""

from __future__ import annotations

import math

from scipy import special


def dkw(n: float, alpha: float) -> float:
    """Radius of the Dvoretzky-Kiefer-Wolfowitz band with Massart's constant (1990): the empirical
    distribution function of n independent values stays within it, everywhere, with probability
    1 - alpha. Exact for every n; conservative when values are tied."""
    return math.sqrt(math.log(2 / alpha) / (2 * n))


def total_variation(n: float, cells: int, alpha: float) -> float:
    """Radius around the empirical distribution over `cells` categories in total variation (the
    share of rows that would have to change their category): the smaller of Weissman et al.
    (2003) and McDiarmid's inequality around the mean's bound sqrt((cells - 1) / n) / 2."""
    if cells < 2:
        return 0.0
    weissman = math.sqrt((math.log(2.0**cells - 2) + math.log(1 / alpha)) / (2 * n))
    mcdiarmid = math.sqrt((cells - 1) / n) / 2 + math.sqrt(math.log(1 / alpha) / (2 * n))
    return min(weissman, mcdiarmid)


def ks_p_value(distance: float, min_effect: float, n: float, m: float) -> float:
    """The smallest alpha at which `distance - dkw(n, alpha/2) - dkw(m, alpha/2)` is still above
    the minimum effect."""
    excess = max(0.0, distance - min_effect) / (math.sqrt(1 / (2 * n)) + math.sqrt(1 / (2 * m)))
    return min(1.0, 4 * math.exp(-(excess**2)))


def tv_p_value(distance: float, min_effect: float, n: float, m: float, cells: int) -> float:
    """As `ks_p_value`, for `total_variation`."""
    if cells < 2:
        return 1.0
    scale = math.sqrt(1 / (2 * n)) + math.sqrt(1 / (2 * m))
    excess = max(0.0, distance - min_effect)
    mean = math.sqrt(cells - 1) / 2 * (1 / math.sqrt(n) + 1 / math.sqrt(m))
    weissman = math.log(2) + math.log(2.0**cells - 2) - (excess / scale) ** 2
    mcdiarmid = math.log(2) - (max(0.0, excess - mean) / scale) ** 2
    return min(1.0, math.exp(min(weissman, mcdiarmid)))


def psi_effect(min_effect: float) -> float:
    """The PSI of a normal distribution whose mean has moved by this KS distance: the square of the
    move in standard deviations, 2 * quantile((1 + d) / 2), so about 2 pi d**2 (0.063 for 0.1).
    PSI is Jeffreys' divergence, and binning never raises it: both tests then mean the same move."""
    return float(4 * special.ndtri((1 + min_effect) / 2) ** 2)


def psi_low(statistic: float, cells: int, size: float, alpha: float) -> float:
    """Lower bound of the PSI between the distributions.

    statistic: 4 size sum((sqrt(p) - sqrt(q))**2) over the cells, which is noncentral chi-squared
    with cells - 1 degrees of freedom (variance-stabilised counts, Freeman & Tukey 1950), and
    noncentrality at most size * PSI, because (p - q) log(p / q) >= 4 (sqrt(p) - sqrt(q))**2.
    size: n m / (n + m). An approximation for large samples; `benchmarks/monitor_false_alarms.py`
    measures it at the levels that are used."""
    if cells < 2 or special.chdtrc(cells - 1, statistic) >= alpha:
        return 0.0
    # 1 - alpha must not be 1
    return float(special.chndtrinc(statistic, cells - 1, 1 - max(alpha, 1e-15))) / float(size)


def psi_p_value(statistic: float, cells: int, size: float, effect: float) -> float:
    """The smallest alpha at which `psi_low` is still above `effect`."""
    if cells < 2:
        return 1.0
    if effect == 0:
        return float(special.chdtrc(cells - 1, statistic))
    from scipy import stats  # slow to import, and few processes come here

    return float(stats.ncx2.sf(statistic, cells - 1, size * effect))
