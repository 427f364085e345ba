"""What SciPy says, for the tests beside: `python3 reference.py > reference.txt`, with the versions that its first line names."""

import numpy as np
import scipy
from scipy import stats


def line(kind, *values):
    print(kind, *(repr(float(value)) for value in values))


print(f"# scipy {scipy.__version__}, numpy {np.__version__}")
for degrees in (1.0, 1.5, 2.0, 3.7, 8.0, 19.0, 37.6, 120.0, 2_000.0, 1e6):
    for t in (0.01, 0.1, 0.7, 1.96, 4.3, 12.7, 40.0):
        p = 2 * stats.t.sf(t, degrees)
        if p > 1e-250:
            line("t", t, degrees, p)
for z in (-8.0, -3.3, -1.96, -0.5, 0.0, 0.5, 1.96, 3.3, 8.0):
    line("normal", z, stats.norm.cdf(z))

random = np.random.default_rng(20261127)
PAIRS = [
    (random.normal(10.0, 0.2, 20), random.normal(8.76, 0.2, 20)),
    (random.normal(10.0, 0.2, 20), random.normal(10.0, 2.0, 5)),
    (random.normal(1e-6, 1e-8, 3), random.normal(1.01e-6, 1e-8, 40)),
    (random.lognormal(0.0, 0.5, 12), random.lognormal(0.3, 0.2, 9)),
    (np.array([1.0, 2.0]), np.array([5.0, 7.0])),
    (np.array([3.0, 3.0, 3.0]), np.array([3.0, 3.1, 2.9, 3.2])),
    (random.exponential(2.0, 30), random.exponential(2.0, 30)),
]
for first, second in PAIRS:
    found = stats.ttest_ind(second, first, equal_var=False)
    line("welch", found.statistic, found.df, found.pvalue, len(first), *first, *second)


def relative(second, first, axis):
    return second.mean(axis=axis) / first.mean(axis=axis) - 1


# Percentile intervals of the relative difference, at two levels, of 200,000 resamples.
for first, second in (PAIRS[0], PAIRS[1], PAIRS[3], PAIRS[6]):
    for level in (0.8, 0.95):
        found = stats.bootstrap(
            (second, first),
            relative,
            n_resamples=200_000,
            confidence_level=level,
            method="percentile",
            vectorized=True,
            batch=10_000,
            rng=np.random.default_rng(7),
        ).confidence_interval
        line("percentile", level, found.low, found.high, len(first), *first, *second)
