"""Settings of the policies, and what follows from them."""

from __future__ import annotations

import pytest

from edge_agent.policies.bytes import ByteBudget
from edge_agent.policies.config import (
    CostConfig, EnergyConfig, PolicyConfig, check_energy, energy_model, minutes_of, rules_of,
)
from edge_agent.policies.deadline import Deadline
from edge_agent.policies.energy import EnergyBudget
from edge_agent.policies.latency import Latency
from edge_agent.policies.privacy import Privacy
from edge_agent.policies.quality import Quality
from edge_agent.policies.thermal import Thermal
from edge_agent.planner.predict import Prices
from split_core.errors import ConfigError
from split_core.wire.messages import Codec
from split_core.wire.rungs import Rung


def test_the_defaults_work():
    PolicyConfig().check()
    check_energy(EnergyConfig())
    CostConfig().check()
    CostConfig(0.0, 0.0, 0.0).check()


@pytest.mark.parametrize("name", ["per_gb", "per_worker_hour", "per_kwh"])
@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf")])
def test_what_is_no_price_is_refused(name, value):
    with pytest.raises(ConfigError, match=f"cost.{name}"):
        CostConfig(**{name: value}).check()


@pytest.mark.parametrize("kl", [1e-6, 0.02, 99.5, 1000.0])
def test_every_divergence_that_is_taken_has_a_rung(kl):
    PolicyConfig(kl=kl, max_kl=kl).check()
    assert Rung.parse(Rung(Codec.CALIBRATED, kl, "kl").name).level == kl


@pytest.mark.parametrize("settings, words", [
    ({"kl": 0.0}, "policy.kl"), ({"kl": 0.1, "max_kl": 0.05}, "kl <= max_kl"),
    ({"kl": float("nan")}, "policy.kl"), ({"max_kl": float("inf")}, "policy.max_kl"),
    ({"kl": 1e-7}, "1e-06 <= kl"), ({"hard_c": float("inf")}, "policy.hard_c"),
    ({"mb_per_day": float("inf")}, "mb_per_day"),
    ({"soft_c": 80.0, "hard_c": 80.0}, "policy.soft_c"), ({"margin": -0.1}, "policy.margin"),
    ({"margin": 0.95}, "policy.margin"), ({"dwell_s": -1.0}, "policy.dwell_s"),
    ({"min_cut": -1}, "policy.min_cut"), ({"slack_price": float("inf")}, "policy.slack_price"),
    ({"mb_per_day": 0.0}, "policy.mb_per_day"), ({"mb_per_day": float("nan")}, "mb_per_day"),
    ({"trusted_workers": ("a/b",)}, "a/b"),
])
def test_what_cannot_work_is_refused_by_its_name(settings, words):
    with pytest.raises(ConfigError, match=words):
        PolicyConfig(**settings).check()


@pytest.mark.parametrize("settings, words", [
    ({"until": "18:00", "hours": 3.0}, "give one"), ({"until": "25:00"}, "'25:00'"),
    ({"hours": 0.0}, "energy.hours"), ({"capacity_wh": -1.0}, "energy.capacity_wh"),
    ({"base_w": float("nan")}, "energy.base_w"), ({"j_per_byte": 0.0}, "energy.j_per_byte"),
])
def test_so_is_a_battery(settings, words):
    with pytest.raises(ConfigError, match=words):
        check_energy(EnergyConfig(**settings))


@pytest.mark.parametrize("text, minutes", [("0:00", 0), ("00:01", 1), ("7:05", 425),
                                           ("18:00", 1080), ("23:59", 1439)])
def test_a_time_of_day(text, minutes):
    assert minutes_of(text) == minutes


@pytest.mark.parametrize("text", ["24:00", "18", "18:60", "6pm", "-1:00", "18:00 ", "18:0"])
def test_what_is_no_time_of_day(text):
    with pytest.raises(ConfigError, match="wanted a time of day"):
        minutes_of(text)


def test_settings_become_rules():
    policy = PolicyConfig(aim="deadline", slack_price=7.0, min_cut=3, trusted_workers=("w",),
                          only_calibrated=True, max_kl=0.1, soft_c=60.0, hard_c=65.0,
                          margin=0.2, dwell_s=9.0)
    rules = rules_of(policy, CostConfig(per_gb=2.0, per_worker_hour=3.0, per_kwh=4.0))
    assert rules.aim == Deadline(7.0)
    assert rules.limits == (Privacy(3, ("w",)), Quality(0.1), EnergyBudget(), ByteBudget(),
                            Thermal(60.0, 65.0))
    assert (rules.prices, rules.margin, rules.dwell_s) == (Prices(2.0, 3.0, 4.0), 0.2, 9.0)
    plain = rules_of(PolicyConfig(), CostConfig())
    assert plain.aim == Latency()
    assert plain.limits == (Privacy(0, None), EnergyBudget(), ByteBudget(), Thermal(70.0, 80.0))


def test_the_boards_numbers_are_the_settings():
    model = energy_model(EnergyConfig(j_per_cpu_s=2.0, j_per_byte=3e-6, base_w=1.5))
    assert (model.j_per_cpu_s, model.j_per_byte, model.base_w) == (2.0, 3e-6, 1.5)
