"""Whether a series of runs can be trusted, and if not, why: one word and the reasons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from edgekd.agent import states
from edgekd.agent.estimates import Estimate, two_modes, variation
from edgekd.agent.states import Finding
from edgekd.agent.trends import slope, trend

WINDOWS = 20
DRIFT = 0.03  # of the median, over the whole measurement
TREND_Z = 2.6
KEPT_SHARE = 0.5
WINDOW_VARIATION = 0.05


@dataclass(frozen=True)
class Evidence:
    """What a verdict is made from."""

    at_s: Sequence[float]
    """Start of each run."""
    ms: Sequence[float]
    undisturbed_ms: Sequence[float]
    median: Estimate
    undisturbed: Estimate
    tolerance: float
    throttling: Sequence[str] = ()
    """Sentences of the device's own: heat, voltage, a quota."""
    clocks: Sequence[Finding] = ()
    """What the clocks did that they should not."""


def judge(evidence: Evidence) -> Dict[str, Any]:
    """The state and the reasons, worst first."""
    found = [("throttled", text) for text in evidence.throttling]
    found += _drift(evidence) + _modes(evidence) + _precision(evidence) + _noise(evidence)
    return states.verdict([*evidence.clocks, *found])


def windows(at_s: Sequence[float], ms: Sequence[float]) -> Tuple[List[float], List[float]]:
    """Mid-time and median of up to 20 stretches with as many runs each."""
    count = max(min(WINDOWS, len(ms) // 10), 1)
    times = np.array_split(np.asarray(at_s, dtype=np.float64), count)
    values = np.array_split(np.asarray(ms, dtype=np.float64), count)
    return [float(np.median(t)) for t in times], [float(np.median(v)) for v in values]


def drift_pct_per_min(at_s: Sequence[float], ms: Sequence[float]) -> Optional[float]:
    """Theil-Sen slope over the windows, in percent of the median a minute; None if none shows."""
    times, values = windows(at_s, ms)
    if abs(trend(values)) < TREND_Z:
        return None
    return 60 * 100 * slope(times, values) / float(np.median(ms))


def _drift(evidence: Evidence) -> List[Finding]:
    times, medians = windows(evidence.at_s, evidence.ms)
    seconds = times[-1] - times[0]
    change = slope(times, medians) * seconds / float(np.median(medians))
    if abs(change) < DRIFT or abs(trend(medians)) < TREND_Z:
        return []
    word = "slower" if change > 0 else "faster"
    return [("drifting", f"it became {abs(change):.0%} {word} within {seconds:.1f} s")]


def _modes(evidence: Evidence) -> List[Finding]:
    kept = len(evidence.undisturbed_ms) >= max(50, len(evidence.ms) // 4)
    modes = two_modes(evidence.undisturbed_ms if kept else evidence.ms)
    if modes is None:
        return []
    return [
        ("bimodal", f"the runs fall into two groups, near {modes[0]:.3g} and {modes[1]:.3g} ms")
    ]


def _precision(evidence: Evidence) -> List[Finding]:
    wanted = evidence.tolerance
    if evidence.median.half_width <= wanted:
        return []
    text = f"+-{100 * evidence.median.half_width:.1f} %"
    if evidence.undisturbed.half_width <= wanted:
        good = f"+-{100 * evidence.undisturbed.half_width:.1f} %"
        return [("noisy", f"the median is known to {text}; of the undisturbed runs to {good}")]
    return [("unstable", f"unstable, {text}: wanted +-{100 * wanted:.0f} % for the median")]


def _noise(evidence: Evidence) -> List[Finding]:
    found = []
    kept = len(evidence.undisturbed_ms) / max(len(evidence.ms), 1)
    if kept < KEPT_SHARE:
        share = f"{1 - kept:.0%} of the runs were interrupted"
        found.append(("noisy", f"{share}: other programs ran, or threads shared a core"))
    spread = variation(windows(evidence.at_s, evidence.ms)[1])
    if spread > WINDOW_VARIATION:
        found.append(("noisy", f"its median varies by {spread:.0%} from moment to moment"))
    return found
