from sink_events import NOON_US, alert_change, cascade_step, score, side_windows, windows

from connectors.sinks.alert_words import Alert, Links, annotations_of, cascade_words, labels_of, risk_words, spelled, usd
from market.raw import PositionSide
from market.readings import AbsoluteRisk, CascadePhase, Severity

MILLION = 1_000_000_000_000


def alert(name="LiquidationRisk", **changes):
    values = {
        "name": name,
        "asset": "BTC",
        "position_side": "",
        "severity": "critical",
        "starts_us": NOON_US,
        "ends_us": None,
        "partition": "0",
        "sequence": 17,
        "changed_us": NOON_US,
        "summary": "BTC: Liquidation Risk 80 of 100, critical",
        "words": "BTC risk 80: critical.",
    }
    return Alert(**(values | changes))


def test_the_labels_are_the_same_as_the_rules_give():
    assert labels_of(alert()) == {
        "alertname": "LiquidationRisk",
        "asset": "BTC",
        "family": "market",
        "severity": "critical",
    }
    assert labels_of(alert("LiquidationCascade", position_side="LONG"))["position_side"] == "LONG"


def test_a_risk_is_said_with_its_reason():
    change = alert_change(Severity.CRITICAL)

    assert risk_words(change) == (
        "BTC: Liquidation Risk 80 of 100, critical",
        "BTC risk 80 (funding 30, liquidations 20), pressure −42: critical.",
    )
    summary, _words = risk_words(alert_change(Severity.NONE, Severity.WARNING, risk=12))
    assert summary == "BTC: Liquidation Risk is down to 12"


def test_a_cascade_is_said_when_it_begins_and_when_it_ends():
    assert cascade_words(cascade_step()) == (
        "BTC: a cascade of longs, 6.0 M USD in 90 s on 2 venues",
        "A cascade of BTC longs began at 12:00:00 UTC: 6.0 M USD in 90 s, 1,204 liquidations on binance-usdm, okx.",
    )
    summary, words = cascade_words(cascade_step(CascadePhase.ENDED, position_side=PositionSide.SHORT))
    assert summary == "BTC: the cascade of shorts is over, 84.0 M USD in all"
    assert words == (
        "The cascade of BTC shorts that began at 12:00:00 UTC has ended: 84.0 M USD in 1,204 liquidations on binance-usdm, "
        "okx; at its peak 30.0 M USD in 90 s."
    )
    assert "on 1 venue" in cascade_words(cascade_step(venues=("okx",)))[0]


def test_people_read_what_raises_the_risk_the_sums_of_90_seconds_and_what_is_not_known():
    known = score(
        windows=windows(side_windows(12 * MILLION, 9), side_windows(400_000_000_000, 2)),
        risk=AbsoluteRisk(50, 30, 0, None, 20),
        missing_inputs=("long_short_ratio", "liquidations:okx"),
        liquidations_are_floors=True,
    )

    told = annotations_of(alert(), known, Links("https://runbooks.example", "https://grafana.example/d/asset?var={asset}"))

    assert told == {
        "summary": "BTC: Liquidation Risk 80 of 100, critical",
        "description": "BTC risk 80: critical. Liquidated in the last 90 s: at least 12.0 M USD of longs and at least 400.0 k "
        "USD of shorts. Not known: long short ratio, liquidations of okx.",
        "runbook_url": "https://runbooks.example/LiquidationRisk.md",
        "frame": "0/17",
        "degraded": "without long short ratio, liquidations of okx",
        "dashboard_url": "https://grafana.example/d/asset?var=BTC",
    }
    cascade = annotations_of(alert("LiquidationCascade", words="It began."), known, Links())
    assert cascade["description"].startswith(
        "It began. Liquidation Risk is 50 of 100 (funding 30, liquidations 20). Liquidated"
    )


def test_without_a_score_and_links_an_alert_says_what_it_knows_itself():
    assert annotations_of(alert(), None, Links()) == {
        "summary": "BTC: Liquidation Risk 80 of 100, critical",
        "description": "BTC risk 80: critical.",
        "runbook_url": "deploy/runbooks/LiquidationRisk.md",
        "frame": "0/17",
    }


def test_a_score_that_misses_nothing_degrades_nothing_and_a_risk_of_nothing_has_no_components():
    whole = score(missing_inputs=(), windows=None)

    told = annotations_of(alert("LiquidationCascade", words="It began."), whole, Links())

    assert "degraded" not in told
    assert told["description"] == "It began. Liquidation Risk is 0 of 100."


def test_inputs_and_amounts_are_spelt_for_people():
    assert spelled(("open_interest", "liquidations:bybit-linear")) == "open interest, liquidations of bybit-linear"
    amounts = [usd(micros) for micros in (0, 999 * 10**6, 1_500 * 10**6, 2 * 10**15)]
    assert amounts == ["0 USD", "999 USD", "1.5 k USD", "2.0 B USD"]
