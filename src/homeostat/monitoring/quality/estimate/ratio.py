"""How the features of some traffic differ from the reference's: the density ratio, how well a
classifier tells them apart, and which rows lie where the reference has none."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MOST = 5_000
"""Rows of either side that the classifier and the neighbours see; more change little."""
LEAST_EFFECTIVE = 0.2
"""Weights are tempered until they are worth this share of the reference's rows (Kish 1965)."""
NEIGHBOURS = 5
ORDINARY = 0.99
"""The share of reference rows whose distance to their neighbours is called ordinary."""


class Ratio(NamedTuple):
    """weight: density of the traffic over that of the reference at each reference row, (n,),
    tempered. auc: of the domain classifier, on rows it has not seen; 0.5 is no difference.
    effective: the share of the reference's rows that untempered weights are worth."""

    weight: Floats
    auc: float
    effective: float


def density_ratio(reference: Floats, current: Floats, *, seed: int = 0) -> Ratio:
    """reference: (n, d), current: (m, d); NaN is a value of its own.

    The odds of a domain classifier (LightGBM, two folds, each row judged by the one that has not
    seen it) are the density ratio (Bickel et al. 2009). Where the two hardly overlap a few rows
    would carry all of the weight, so weights are raised to the largest power in [0, 1] at which
    they are worth LEAST_EFFECTIVE of the rows (flattening, Shimodaira 2000)."""
    from lightgbm import Booster, Dataset, train

    random = np.random.default_rng(seed)
    table = np.vstack([reference, current])
    domain = np.repeat([0.0, 1.0], [len(reference), len(current)])
    fold = random.permutation(len(table)) % 2
    odds = np.zeros(len(table))
    settings = {
        "objective": "binary", "learning_rate": 0.1, "num_leaves": 8, "min_data_in_leaf": 50,
        "num_threads": 1, "verbosity": -1, "deterministic": True, "seed": seed,
    }  # fmt: skip
    for side in (0, 1):
        rows = np.concatenate(
            [_thin(np.flatnonzero((fold != side) & (domain == d)), random) for d in (0.0, 1.0)]
        )
        model: Booster = train(settings, Dataset(table[rows], domain[rows]), num_boost_round=50)
        share = float(domain[rows].mean())
        odds[fold == side] = model.predict(table[fold == side], raw_score=True)
        odds[fold == side] -= np.log(max(share, 1e-9) / max(1 - share, 1e-9))
    raw = np.exp(np.clip(odds[domain == 0], -9, 9))
    return Ratio(temper(raw), _auc(domain, odds), effective(raw))


def temper(weight: Floats, least: float = LEAST_EFFECTIVE) -> Floats:
    """weight ** t with the largest t in [0, 1] at which `effective` is at least `least`."""
    for power in np.linspace(1, 0, 21):
        flat = weight**power
        if effective(flat) >= least:
            return np.asarray(flat / flat.mean())
    return np.ones_like(weight)


def effective(weight: Floats) -> float:
    """Kish's effective sample size, as a share of the rows."""
    return float(weight.sum() ** 2 / (weight @ weight) / weight.size)


class Support(NamedTuple):
    """The reference as the neighbours see it. radius: within it an ordinary reference row has
    NEIGHBOURS others."""

    rows: Floats
    middle: Floats
    scale: Floats
    radius: float

    @classmethod
    def build(cls, reference: Floats, *, seed: int = 0) -> Support:
        """reference: (n, d)."""
        random = np.random.default_rng(seed)
        rows = reference[_thin(np.arange(len(reference)), random)]
        middle = np.nan_to_num(np.nanmedian(_finite(rows), axis=0))
        filled = np.where(np.isfinite(rows), rows, middle)
        scale = filled.std(axis=0)
        scaled = (filled - middle) / np.where(scale > 0, scale, 1.0)
        self = cls(scaled, middle, np.where(scale > 0, scale, 1.0), np.inf)
        if len(scaled) <= NEIGHBOURS + 1:
            return self
        # the nearest neighbour of a reference row is itself
        return self._replace(
            radius=float(np.quantile(self._distance(scaled, NEIGHBOURS + 1), ORDINARY))
        )

    def outside(self, current: Floats) -> float:
        """The share of rows (m, d) farther from the reference than its ordinary rows are from
        each other; about 1 - ORDINARY where nothing has moved."""
        if not len(current) or not np.isfinite(self.radius):
            return 0.0
        some = current[_thin(np.arange(len(current)), np.random.default_rng(0))]
        filled = np.where(np.isfinite(some), some, self.middle)
        far = self._distance((filled - self.middle) / self.scale, NEIGHBOURS) > self.radius
        return float(far.mean())

    def _distance(self, rows: Floats, neighbour: int) -> Floats:
        from sklearn.neighbors import NearestNeighbors

        found = NearestNeighbors(n_neighbors=neighbour).fit(self.rows)
        return np.asarray(found.kneighbors(rows)[0][:, -1], dtype=np.float64)


def _finite(rows: Floats) -> Floats:
    clean = np.where(np.isfinite(rows), rows, np.nan)
    clean[:, np.isnan(clean).all(axis=0)] = 0.0
    return np.asarray(clean, dtype=np.float64)


def _thin(index: NDArray[np.intp], random: np.random.Generator) -> NDArray[np.intp]:
    return index if index.size <= MOST else random.choice(index, MOST, replace=False)


def _auc(domain: Floats, odds: Floats) -> float:
    from homeostat.monitoring.quality.estimate.masses import Masses, metric_of

    found = metric_of("auc", Masses(odds, domain, 1 - domain))
    return 0.5 if found is None else found.value
