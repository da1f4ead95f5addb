"""Link quality and level of a Wi-Fi interface, from /proc/net/wireless.

Of several interfaces: the one that is given, else the one with the default route (the best of
them by metric), else the first. The file has no column for the greatest quality. It is 70 for
every driver that goes through cfg80211 and measures in dBm; where the level is not in dBm, or
the quality is above 70, the scale is unknown and so is the quality.
"""

from __future__ import annotations

from edge_agent.sensors.health import PLAUSIBLE, Health
from edge_agent.sensors.tree import Tree, number

_MAX_QUALITY = 70


class Wifi:
    name = "wifi"

    def __init__(self, tree: Tree, interface: str | None = None):
        self._tree, self._interface = tree, interface

    def read(self, now_s: float) -> Health:
        links = _links(self._tree.text("proc/net/wireless"))
        name = self._interface or _default(self._tree.text("proc/net/route"), links)
        if name not in links:
            return Health()
        quality, level_dbm, retries, beacons = links[name]
        low, high = PLAUSIBLE["wifi_level_dbm"]
        in_dbm = level_dbm is not None and low <= level_dbm <= high
        return Health.of(
            "proc/net/wireless", wifi_interface=name, wifi_level_dbm=level_dbm,
            wifi_quality_ratio=quality / _MAX_QUALITY if in_dbm and quality is not None else None,
            wifi_retries=retries, wifi_missed_beacons=beacons)


def _links(text: str | None) -> dict[str, tuple]:
    """Interface -> quality, level, retries, missed beacons, each None if unknown."""
    # wlan0: 0000   54.  -56.  -256        0      0      0      0      0        0
    #        status link level noise    nwid  crypt   frag  retry   misc   beacon
    found = {}
    for line in (text or "").splitlines()[2:]:
        name, colon, rest = line.strip().rpartition(":")
        words = rest.split()
        if colon and len(words) >= 10 and 0 < len(name) < 16 and name.isprintable():
            retries, beacons = (None if (n := number(words[at])) is None else int(n)
                                for at in (7, 9))
            # A dot marks a value the driver has renewed since it was last read.
            found[name] = number(words[1]), number(words[2]), retries, beacons
    return found


def _default(routes: str | None, links: dict) -> str | None:
    # wlan0  00000000  0101A8C0  0003  0  0  600  00000000 ...: the seventh is the metric
    best = None
    for line in (routes or "").splitlines()[1:]:
        words = line.split()
        if len(words) >= 8 and words[0] in links and words[1] == words[7] == "00000000":
            metric = number(words[6])
            if metric is not None and (best is None or metric < best[0]):
                best = metric, words[0]
    return best[1] if best else next(iter(links), None)
