"""How fast a device is, over several profiles.

A machine that others share is a few per cent slower for ten minutes than for the next ten, all networks alike, and no statistic
of one profile can know that (docs/results/latency.md). So the time of one network, the anchor, is kept from profile to profile,
and a table's level is that of the mean of the last ones.
"""

import math
from collections.abc import Mapping
from pathlib import Path

from ..common.files import append_line, make_folder, one_at_a_time, read_lines

PROFILES = 5  # of which the mean is taken: older ones may be of another operating system
ALIKE = 0.1  # further off the machine is another one, or was in trouble


def settled_level(path: Path, device: Mapping[str, str], profile: str, ms: float) -> tuple[float, int]:
    """The mean of the anchor's time in this profile and in those of the same device before it, and of how many.

    Args:
        path: JSON lines, one for each profile; this one is added if it is not there.
        device: what has to be the same, in texts.
        profile: an identifier: a profile that is read again has the level that it had.
        ms: the anchor's time in this profile.

    Raises:
        FileError: it cannot be read or written.
    """
    make_folder(path.parent)
    with one_at_a_time(path.with_suffix(".lock")):
        records = [r for r in read_lines(path) if {key: r.get(key) for key in device} == device]
        names = [r.get("profile") for r in records]
        if profile in names:
            records = records[: names.index(profile)]
        else:
            append_line(path, {**device, "profile": profile, "ms": ms})
    times = [r["ms"] for r in records if isinstance(r.get("ms"), float)]
    alike = [before for before in times if abs(before / ms - 1) <= ALIKE][-PROFILES + 1 :]
    alike.append(ms)
    return ms * math.exp(math.fsum(math.log(one / ms) for one in alike) / len(alike)), len(alike)  # exactly ms where it is alone
