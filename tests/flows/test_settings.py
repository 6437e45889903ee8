import dataclasses
import os
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from connectors.secrets import SECRETS
from flows.parameter_rules import ParametersError, rule_of, sensible
from flows.settings import Settings, SettingsError, load_settings
from market.parameters import CascadeScoreParameters, CascadeThresholds, Parameters, WatchParameters

KEY = "0123456789abcdef-planted-key"


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """Begin each test without settings of the machine that it runs on; return how to set some."""
    for name in os.environ:
        if name.upper().startswith("CASCADEWATCH_"):
            monkeypatch.delenv(name)

    def setter(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(f"CASCADEWATCH_{name}", value)

    return setter


@pytest.fixture
def file(tmp_path, environment):
    def write(text):
        path = tmp_path / "cascadewatch.toml"
        path.write_text(text)
        environment(CONFIG=str(path))

    return write


def complaint(overrides=None):
    """Return the message of a start that is refused, without its first line."""
    with pytest.raises(SettingsError) as refusal:
        load_settings(overrides)
    first, *lines = str(refusal.value).splitlines()
    return [line.strip() for line in lines] if first == "wrong settings:" else [first, *lines]


def test_without_any_setting_everything_has_a_default(tmp_path):
    settings = load_settings()

    assert settings == Settings()
    assert settings.venues == ("binance-usdm", "bybit-linear", "bybit-inverse", "okx")
    assert (settings.chain.url, settings.mining.source, settings.parameters) == (None, "mempool", Parameters())


def test_the_tables_are_in_the_data_directory_unless_told_otherwise(environment):
    assert load_settings({"data_dir": "/somewhere"}).tables_uri == "/somewhere/tables"
    environment(SINK__TABLES_URI="s3://bucket/prefix")
    assert load_settings().tables_uri == "s3://bucket/prefix"


def test_the_environment_wins_over_the_file_and_arguments_over_both(environment, file):
    file('log_level = "warning"\nepoch_seconds = 2.5\n[metrics]\nport = 9000\nhost = "0.0.0.0"\n')
    environment(METRICS__PORT="9500", EPOCH_SECONDS="3")

    settings = load_settings({"epoch_seconds": 4})

    assert (settings.metrics.host, settings.metrics.port) == ("0.0.0.0", 9500)  # noqa: S104 - nothing listens
    assert (settings.log_level, settings.epoch_seconds) == ("warning", 4.0)


def test_an_empty_variable_says_nothing(environment):
    environment(CHAIN__URL="", LOG_LEVEL="")

    assert load_settings() == Settings()


def test_settings_cannot_be_changed():
    with pytest.raises(ValidationError):
        load_settings().metrics.port = 1


@pytest.mark.parametrize(
    "text", ["okx,bybit-linear", " okx , bybit-linear,", '["okx", "bybit-linear"]', "okx,bybit-linear,okx"]
)
def test_venues_are_a_list_or_separated_by_commas(environment, text):
    environment(VENUES=text)

    assert load_settings().venues == ("okx", "bybit-linear")


def test_venues_of_the_file_are_a_list(file):
    file('venues = ["okx"]')

    assert load_settings().venues == ("okx",)


def test_an_unknown_venue_is_refused_with_those_that_there_are(environment):
    environment(VENUES="okx,mtgox")

    (line,) = complaint()

    assert line.startswith("venues: unknown venue mtgox; allowed: binance-usdm, bybit-linear, bybit-inverse, okx")


def test_no_venue_at_all_is_refused(environment):
    environment(VENUES=",")

    assert "(none given)" in complaint()[0]


@pytest.mark.parametrize("value", ["finalized", "0", "64", 7])
def test_confirmations_are_a_number_or_finalized(value):
    settings = load_settings({"chain": {"confirmations": value}})

    assert settings.chain.confirmations == (value if value == "finalized" else int(value))


@pytest.mark.parametrize("value", ["65", "-1", "final", "3.0", True, None, []])
def test_other_confirmations_are_refused(value):
    (line,) = complaint({"chain": {"confirmations": value}})

    assert line.startswith("chain.confirmations: allowed is 0 to 64, or finalized (value")


def test_no_mining_source_can_be_said_in_words(environment, file):
    file('[mining]\nsource = "none"\n')

    assert load_settings().mining.source is None


def test_a_home_directory_is_found(monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")

    assert str(load_settings({"data_dir": "~/data"}).data_dir) == "/home/somebody/data"


def test_a_home_directory_that_nobody_has_is_refused():
    assert complaint({"data_dir": "~nobody-there/data"})[0].startswith("data_dir: ~nobody-there is nobody's home directory")


# Endpoints


def test_endpoints_come_without_their_last_slash(environment):
    environment(ENDPOINTS='{"okx": {"rest_url": "http://localhost:1/okx/", "websocket_url": "ws://localhost:1/okx"}}')

    assert load_settings().endpoints["okx"].rest_url == "http://localhost:1/okx"


def test_endpoints_of_an_unknown_venue_are_refused(file):
    file('[endpoints.mtgox]\nrest_url = "https://a.example"\nwebsocket_url = "wss://a.example"\n')

    (line,) = complaint()

    assert line.startswith("endpoints: unknown venue mtgox; allowed: binance-usdm, ")


@pytest.mark.parametrize("url", ["a.example", "wss://a.example", "https://", "ftp://a.example"])
def test_a_rest_address_is_http(url):
    (line,) = complaint({"endpoints": {"okx": {"rest_url": url, "websocket_url": "wss://a.example"}}})

    assert (
        line == f"endpoints.okx.rest_url: a base URL begins with http:// or https:// and goes on with a host (value: {url!r})"
    )


def test_half_an_endpoint_is_refused():
    assert complaint({"endpoints": {"okx": {"rest_url": "https://a.example"}}}) == ["endpoints.okx.websocket_url: is missing"]


# What is wrong is named


def test_every_wrong_key_has_its_line_with_what_is_allowed_and_the_value(environment):
    environment(METRICS__PORT="70000", EPOCH_SECONDS="0", LOG_LEVEL="loud", SINK__COMMIT_INTERVAL_SECONDS="inf")

    assert sorted(complaint()) == [
        "epoch_seconds: should be greater than 0 (value: '0')",
        "log_level: should be 'debug', 'info', 'warning' or 'error' (value: 'loud')",
        "metrics.port: should be less than or equal to 65535 (value: '70000')",
        "sink.commit_interval_seconds: should be a finite number (value: 'inf')",
    ]


def test_a_misspelt_variable_is_refused_by_name(environment):
    environment(VENUE="okx", CHAIN_URL=KEY)

    (line,) = complaint()

    assert line.startswith("unknown variable CASCADEWATCH_CHAIN_URL, CASCADEWATCH_VENUE; ")
    assert KEY not in line


def test_so_is_one_in_small_letters(environment):
    environment(venuez="okx")

    assert complaint()[0].startswith("unknown variable CASCADEWATCH_venuez; ")


def test_a_misspelt_part_of_a_variable_is_refused_by_name(environment):
    environment(METRICS__PROT="1")

    assert complaint() == ["metrics.prot: there is no such setting; allowed: host, port"]


def test_misspelt_keys_of_the_file_are_refused_by_name(file):
    file(
        'colour = "red"\n[sink]\ntable_uri = "x"\n[parameters.cascade]\nwindow_uds = 1\n[endpoints.okx]\n'
        'rest_url = "https://a.example"\nwebsocket_url = "wss://a.example"\nother = 1\n'
    )

    lines = {line.partition(":")[0]: line for line in complaint()}

    assert set(lines) == {"colour", "sink.table_uri", "parameters.cascade.window_uds", "endpoints.okx.other"}
    assert "tables_uri" in lines["sink.table_uri"]
    assert lines["parameters.cascade.window_uds"].endswith(
        "allowed: dominance_share, end_fraction, min_count, min_venues, window_usd"
    )
    assert lines["endpoints.okx.other"].endswith("allowed: rest_url, websocket_url")


def test_a_section_that_is_no_section_is_refused(file):
    file("metrics = 9500")

    (line,) = complaint()

    assert line.startswith("metrics: ")


def test_a_mining_source_that_there_is_not_is_refused_once():
    (line,) = complaint({"mining": {"base_urls": {"mine": "https://a.example"}}})

    assert line.startswith("mining.base_urls.mine: should be 'mempool', 'blockchain-com' or 'coin-metrics'")


@pytest.mark.parametrize("text", ["[metrics", "port = ", "a = 1\na = 2"])
def test_a_file_that_is_no_toml_is_refused(file, text):
    file(text)

    assert complaint()[0].startswith("the settings cannot be read: ")


def test_a_file_that_is_missing_is_refused_by_name(environment):
    environment(CONFIG="/nowhere.toml")

    assert complaint() == ["CASCADEWATCH_CONFIG names /nowhere.toml, which is not a file"]


def test_a_variable_that_is_no_json_where_it_must_be_is_named(environment):
    environment(ENDPOINTS="nonsense")

    assert '"endpoints"' in complaint()[0]


@pytest.mark.parametrize("name", ["ENDPOINTS", "VENUES", "PARAMETERS__CASCADE", "PARAMETERS__CASCADE_SCORE__WEIGHTS"])
def test_lists_within_lists_without_end_are_refused(environment, name):
    environment(**{name: "[" * 100_000})

    assert complaint()


def test_a_number_with_more_digits_than_python_reads_is_refused(environment):
    environment(PARAMETERS__CASCADE_SCORE__WEIGHTS="9" * 5_000)

    assert complaint()


# Secrets


def test_secrets_are_in_no_representation(environment):
    environment(CHAIN__URL=f"https://a.example/{KEY}", SINK__STORAGE_OPTIONS__AWS_SECRET_ACCESS_KEY=KEY)

    settings = load_settings()

    assert KEY not in repr(settings) + str(settings) + repr(settings.chain) + settings.model_dump_json()
    assert settings.storage_options() == {"aws_secret_access_key": KEY}
    assert settings.chain.url.get_secret_value() == f"https://a.example/{KEY}"


@pytest.mark.parametrize(
    "wrong",
    [
        {"chain": {"url": KEY}},
        {"chain": {"urls": KEY}},
        {"chain": KEY},
        {"chain": {"url": [KEY]}},
        {"sink": {"storage_options": {"key": [KEY]}}},
        {"sink": {"storage_options": KEY}},
        {"sink": {"storage_option": {"key": KEY}}},
        {"sink": KEY},
        {"chainz": {"url": KEY}},
        {"chain": {"url": f"https://a.example/{KEY}", "confirmations": -1}},
    ],
)
def test_no_secret_is_in_a_message_or_a_traceback(wrong):
    with pytest.raises(SettingsError) as refusal:
        load_settings(wrong)

    assert KEY not in "".join(traceback.format_exception(refusal.value))


@pytest.mark.parametrize(
    "variables",
    [
        {"CHAIN__URL": KEY},
        {"CHAIN": KEY},
        {"SINK__STORAGE_OPTIONS": KEY},
        {"SINK__STORAGE_OPTIONS": '{"key": ["' + KEY + '"]}'},
        {"SINK": '{"storage_options": "' + KEY},
    ],
)
def test_neither_is_one_that_a_variable_held(environment, variables):
    environment(**variables)

    with pytest.raises(SettingsError) as refusal:
        load_settings()

    assert KEY not in "".join(traceback.format_exception(refusal.value))


def test_an_endpoint_that_is_no_url_is_refused_without_its_value():
    assert complaint({"chain": {"url": KEY}}) == [
        "chain.url: an endpoint begins with http:// or https:// and goes on with a host (value not shown)"
    ]


@pytest.mark.parametrize(
    "url", [f"https://user:{KEY}@a.example:port", f"https://a.example:99999/{KEY}", f"https://[::1/{KEY}"]
)
def test_an_address_without_a_place_is_refused_without_its_secrets(url):
    for settings in (
        {"endpoints": {"okx": {"rest_url": url, "websocket_url": "wss://a.example"}}},
        {"mining": {"base_urls": {"mempool": url}}},
        {"chain": {"url": url}},
    ):
        (line,) = complaint(settings)
        assert KEY not in line


@pytest.mark.parametrize("uri", [f"s3://user:{KEY}@bucket/tables", f"az://tables?sig={KEY}"])
def test_credentials_in_the_place_of_the_tables_are_refused_without_showing_them(uri):
    (line,) = complaint({"sink": {"tables_uri": uri}})

    assert line.startswith("sink.tables_uri: credentials do not belong here")
    assert "sink.storage_options" in line
    assert KEY not in line


def test_every_place_that_may_hold_a_secret_is_known_once_settings_are_read(environment):
    environment(
        CHAIN__URL=f"https://a.example/v3/{KEY}-1",
        SINK__STORAGE_OPTIONS=f'{{"aws_secret_access_key": "{KEY}-2", "aws_region": "eu-west-1"}}',
        MINING__BASE_URLS=f'{{"mempool": "https://user:{KEY}-3@a.example"}}',
        ENDPOINTS=f'{{"okx": {{"rest_url": "https://a.example/?t={KEY}-4", "websocket_url": "wss://{KEY}-5@a.example/okx"}}}}',
    )

    load_settings()

    said = " ".join(f"{KEY}-{number}" for number in range(1, 6))
    assert SECRETS.clean(f"{said} eu-west-1 okx https://a.example") == "… … … … … eu-west-1 okx https://a.example"


# Parameters


def test_a_parameter_comes_from_a_variable(environment):
    environment(PARAMETERS__CASCADE__WINDOW_USD="1000000", PARAMETERS__PRESSURE__INFLOW_IS_BEARISH="false")

    parameters = load_settings().parameters

    assert parameters.cascade == CascadeThresholds(window_usd=1_000_000)
    assert parameters.pressure.inflow_is_bearish is False


def test_a_parameter_comes_from_the_file(file, environment):
    file("[parameters.cascade]\nwindow_usd = 1000000\nmin_count = 3\n")
    environment(PARAMETERS__CASCADE__MIN_COUNT="4")

    assert load_settings().parameters.cascade == CascadeThresholds(window_usd=1_000_000, min_count=4)


@pytest.mark.parametrize("text", ["BTC, ETH", '["BTC", "ETH"]'])
def test_lists_of_parameters_are_separated_by_commas_or_json(environment, text):
    environment(PARAMETERS__WATCH__WATCHED_ASSETS=text, PARAMETERS__MINERS__FLEET_EFFICIENCIES_J_PER_TH="17.5,30")

    parameters = load_settings().parameters

    assert parameters.watch == WatchParameters(watched_assets=("BTC", "ETH"))
    assert parameters.miners.fleet_efficiencies_j_per_th == (17.5, 30.0)


@pytest.mark.parametrize(
    "variables",
    [
        {"PARAMETERS__CASCADE_SCORE__WEIGHTS__SIZE": "0.5"},
        {"PARAMETERS__CASCADE_SCORE__WEIGHTS": '{"size": 0.5}'},
        {"PARAMETERS__CASCADE_SCORE": '{"weights": {"size": 0.5}}'},
    ],
)
def test_weights_that_are_not_named_keep_their_default(environment, variables):
    environment(**variables)

    assert load_settings().parameters.cascade_score.weights == {**CascadeScoreParameters().weights, "size": 0.5}


def test_parameters_can_be_handed_over_ready_made():
    parameters = Parameters(cascade=CascadeThresholds(window_usd=1))

    assert load_settings({"parameters": parameters}).parameters is parameters


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        ("cascade", "dominance_share", 1.01),
        ("cascade", "end_fraction", -0.1),
        ("cascade", "min_count", 0),
        ("cascade", "window_usd", 0),
        ("windows", "allowed_lateness_us", -1),
        ("pressure", "lookback_us", 0),
        ("pressure", "lookback_us", -14_400_000_000),
        ("pressure", "flow_unit_usd", 0),
        ("pressure", "minimum_usd", -1),
        ("severity", "critical_risk", 101),
        ("severity", "critical_pressure", -101),
        ("alerts", "clear_below_points", -1),
        ("miners", "electricity_usd_per_kwh", -0.01),
        ("miners", "fleet_efficiencies_j_per_th", (15.0, 0.0)),
        ("watch", "watched_assets", ("BTC", "eth usd")),
        ("watch", "active_us", 60_000_000),
        ("duplicates", "max_keys", 0),
    ],
)
def test_a_parameter_that_makes_no_sense_is_refused_by_name(section, name, value):
    (line,) = complaint({"parameters": {section: {name: value}}})

    assert line.startswith(f"parameters.{section}.{name}: allowed is ")
    assert line.endswith(f"(value: {value!r})")


def test_several_of_them_have_a_line_each():
    lines = complaint({"parameters": {"cascade": {"dominance_share": 2, "min_venues": -1}}})

    assert lines == [
        "parameters.cascade.dominance_share: allowed is 0 to 1 (value: 2.0)",
        "parameters.cascade.min_venues: allowed is 1 or more (value: -1)",
    ]


@pytest.mark.parametrize("weights", [dict.fromkeys(CascadeScoreParameters().weights, 0), {"size": -0.1}, {"luck": 1.0}])
def test_weights_without_sense_are_refused(weights):
    (line,) = complaint({"parameters": {"cascade_score": {"weights": weights}}})

    assert line.startswith("parameters.cascade_score.weights: allowed is 0 or more for each of size, speed, ")


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_are_finite(number):
    given = {"miners": {"electricity_usd_per_kwh": number}, "cascade_score": {"weights": {"size": number}}}

    assert complaint({"parameters": given}) == [
        f"parameters.cascade_score.weights.size: should be a finite number (value: {number!r})",
        f"parameters.miners.electricity_usd_per_kwh: should be a finite number (value: {number!r})",
    ]


def test_thresholds_of_severity_must_not_fall():
    (line,) = complaint({"parameters": {"severity": {"warning_risk": 80}}})

    assert line == "parameters.severity: info_risk, warning_risk and critical_risk must not fall (values: (30, 80, 70))"


@pytest.mark.parametrize(
    "value", [{"cascade": {"window_usd": "much"}}, {"cascade": 5}, "cascade", {"cascade_score": {"weights": "heavy"}}]
)
def test_a_parameter_of_the_wrong_type_is_refused(value):
    (line,) = complaint({"parameters": value})

    assert line.startswith("parameters")


def test_every_parameter_has_a_rule():
    for section in dataclasses.fields(Parameters):
        for field in dataclasses.fields(getattr(Parameters(), section.name)):
            assert rule_of(field.name) is not None


def test_a_parameter_whose_name_says_nothing_has_none():
    with pytest.raises(LookupError, match="flavour"):
        rule_of("flavour")


@given(share=st.floats())
def test_shares_are_between_nothing_and_everything(share):
    parameters = Parameters(cascade=CascadeThresholds(dominance_share=share))
    if 0 <= share <= 1:
        assert sensible(parameters) is parameters
    else:
        with pytest.raises(ParametersError, match="dominance_share"):
            sensible(parameters)
