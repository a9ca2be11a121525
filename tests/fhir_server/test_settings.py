import pytest

from fhir_server.settings import FILE_NAME, Settings, SettingsFault, explain, is_loopback, load_settings


@pytest.fixture(autouse=True)
def _clean(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in ("FHIR_PORT", "FHIR_CONFIG", "FHIR_WORKERS", "FHIR_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)


def source(loaded, name):
    return next((row.value, row.source) for row in explain(loaded) if row.name == name)


def test_a_flag_beats_the_environment_which_beats_the_file(monkeypatch, tmp_path):
    (tmp_path / FILE_NAME).write_text("port = 1\nworkers = 2\ngrace = 3.0\n")
    monkeypatch.setenv("FHIR_PORT", "4")
    monkeypatch.setenv("FHIR_WORKERS", "5")
    loaded = load_settings({"data_dir": tmp_path, "port": 6, "host": None})
    assert source(loaded, "port") == ("6", "flag")
    assert source(loaded, "workers") == ("5", "environment")
    assert source(loaded, "grace") == ("3.0", f"file {tmp_path / FILE_NAME}")
    assert source(loaded, "host") == ("127.0.0.1", "default")


def test_options_of_a_group_come_from_a_table_and_from_variables_with_two_underscores(monkeypatch, tmp_path):
    (tmp_path / FILE_NAME).write_text("[rest]\nhistory_count = 7\nupdate_as_create = false\n")
    monkeypatch.setenv("FHIR_REST__HISTORY_COUNT", "9")
    rest = load_settings({"data_dir": tmp_path}).settings.rest
    assert (rest.history_count, rest.update_as_create) == (9, False)


def test_the_file_may_be_named_by_a_variable(monkeypatch, tmp_path):
    (tmp_path / "other.toml").write_text("port = 8123\n")
    monkeypatch.setenv("FHIR_CONFIG", str(tmp_path / "other.toml"))
    assert load_settings({}).settings.port == 8123


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("prot = 1", ["prot", "no such setting"], id="an unknown name"),
        pytest.param("[rest]\nnone = 1", ["rest.none", "Unexpected"], id="an unknown name in a group"),
        pytest.param("port = 70000", ["port", "65535"], id="a port beyond the last"),
        pytest.param("port = 'x'\nworkers = 0", ["port", "workers"], id="several faults at once"),
        pytest.param("port = ", ["Invalid value"], id="no TOML"),
    ],
)
def test_a_fault_of_the_file_names_setting_and_file(tmp_path, text, words):
    (tmp_path / FILE_NAME).write_text(text)
    with pytest.raises(SettingsFault) as fault:
        load_settings({"data_dir": tmp_path})
    assert all(word in str(fault.value) for word in [*words, FILE_NAME])


def test_a_named_file_that_is_not_there_is_a_fault(monkeypatch, tmp_path):
    monkeypatch.setenv("FHIR_CONFIG", str(tmp_path / "none.toml"))
    with pytest.raises(SettingsFault, match=r"none\.toml"):
        load_settings({})


def test_an_unknown_variable_is_reported_and_left_alone(monkeypatch):
    monkeypatch.setenv("FHIR_SERVICE_HOST", "10.0.0.1")
    assert load_settings({}).unknown_variables == ("FHIR_SERVICE_HOST",)


def test_every_setting_says_what_it_is_for():
    assert all(field.description for field in Settings.model_fields.values())


def test_the_base_follows_the_public_url_and_loopback_names_are_aliases():
    local = load_settings({"port": 8001}).settings
    assert local.base == "http://localhost:8001/fhir"
    assert "http://127.0.0.1:8001/fhir" in local.base_aliases
    public = load_settings({"public_url": "https://fhir.example.org/", "host": "0.0.0.0"}).settings
    assert public.base == "https://fhir.example.org/fhir"
    assert public.base_aliases == ()


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("10.0.0.1", False),
        ("::", False),
        ("localhost.example.org", False),
        ("", False),
    ],
)
def test_loopback_addresses_are_known(host, expected):
    assert is_loopback(host) is expected
