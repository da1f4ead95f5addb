"""Which interface, and what its numbers mean."""

from __future__ import annotations

import pytest

from edge_agent.sensors.health import Health
from edge_agent.sensors.tree import Tree
from edge_agent.sensors.wifi import Wifi

from .machines import ROUTE, WIRELESS, put

TWO = WIRELESS + " wlan1: 0000   35.  -75.  -256        0      0      0      1      0        2\n"
HEADER = ROUTE.splitlines()[0] + "\n"


def route(interface: str, metric: int) -> str:
    return f"{interface}\t00000000\t0101A8C0\t0003\t0\t0\t{metric}\t00000000\t0\t0\t0\n"


def read(root, wireless=TWO, routes="", interface=None) -> Health:
    put(root, "proc/net/wireless", wireless)
    put(root, "proc/net/route", HEADER + routes)
    return Wifi(Tree(str(root)), interface).read(0.0)


@pytest.mark.parametrize(("routes", "given", "expected"), [
    ("", None, "wlan0"),
    (route("wlan1", 600), None, "wlan1"),
    (route("wlan0", 601) + route("wlan1", 600), None, "wlan1"),
    (route("eth0", 100) + route("wlan1", 600), None, "wlan1"),
    (route("eth0", 100), None, "wlan0"),
    (route("wlan1", 600), "wlan0", "wlan0"),
    (route("wlan1", 600), "wlan2", None),
    ("wlan1\t0001A8C0\t00000000\t0001\t0\t0\t600\t00FFFFFF\t0\t0\t0\n", None, "wlan0"),
])
def test_the_interface_that_is_given_else_the_one_with_the_default_route(
        routes, given, expected, tmp_path):
    assert read(tmp_path, routes=routes, interface=given).wifi_interface == expected


@pytest.mark.parametrize(("link", "level", "quality", "dbm"), [
    ("70.", "-40.", 1.0, -40.0),
    ("35", "-75", 0.5, -75.0),
    ("0", "-256", None, None),                   # not associated
    ("60.", "200.", None, None),                 # not dBm, on an unknown scale
    ("100.", "-40.", None, -40.0),               # a driver that counts to 100
    ("x", "-40.", None, -40.0),
])
def test_quality_is_of_70_where_the_level_is_in_dbm(link, level, quality, dbm, tmp_path):
    health = read(tmp_path, WIRELESS.replace("49.", link).replace("-61.", level))
    assert (health.wifi_quality_ratio, health.wifi_level_dbm) == (quality, dbm)
    assert (health.wifi_retries, health.wifi_missed_beacons) == (12, 3)


def test_a_line_that_is_cut_short_is_no_interface(tmp_path):
    line = WIRELESS.splitlines()[2]
    for end in range(len(line) - 3):
        health = read(tmp_path, "\n".join([*WIRELESS.splitlines()[:2], line[:end]]))
        assert health.wifi_missed_beacons is None
