"""deploy/ is true: its commands, flags, settings, ports, paths and limits are those of the product. No container is built."""

import configparser
import json
import os
import re
import shlex
import tomllib
import urllib.request
from pathlib import Path

import pytest
import typer
import yaml

from fhir_server.app import create_app
from fhir_server.cli import app, may_serve
from fhir_server.family import AFTER_GRACE
from fhir_server.http.health import health_routes
from fhir_server.interactions.options import RestOptions
from fhir_server.settings import CONFIG_VARIABLE, PREFIX, Settings, explain, load_settings

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
COMMANDS = typer.main.get_command(app)


def text_of(name):
    return (DEPLOY / name).read_text(encoding="utf-8")


def flags_of(words):
    """The flags of `fhir-server serve ...` by the command line itself, which refuses what it does not know."""
    assert words[0].rpartition("/")[2] == "fhir-server"
    command = COMMANDS.commands[words[1]]
    context = command.make_context(words[1], list(words[2:]))
    return {name: value for name, value in context.params.items() if value is not None}


def dockerfile():
    """(instruction, argument) of the last stage."""
    joined = text_of("Dockerfile").replace("\\\n", " ")
    rows = [line.split(None, 1) for line in joined.splitlines() if line.strip() and not line.startswith("#")]
    last = max(number for number, row in enumerate(rows) if row[0] == "FROM")
    return [(name, argument.strip()) for name, argument in rows[last:]]


def instruction(name):
    (found,) = [argument for kind, argument in dockerfile() if kind == name]
    return found


def service(name):
    return yaml.safe_load(text_of("compose.yaml"))["services"][name]


def unit():
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str
    parser.read_string(text_of("fhir-server.service"))
    return parser


def settings_with(monkeypatch, environment, flags):
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    loaded = load_settings(flags)
    assert loaded.unknown_variables == ()
    return loaded.settings


def test_the_container_runs_a_command_of_the_product_as_nobody_in_particular():
    flags = flags_of(json.loads(instruction("CMD")))
    assert str(flags["port"]) == instruction("EXPOSE")
    assert str(flags["data_dir"]) == instruction("VOLUME")
    assert instruction("USER") not in ("root", "0")
    assert instruction("STOPSIGNAL") == "SIGTERM"
    assert [argument for kind, argument in dockerfile() if kind == "COPY"] == [
        "--from=build /opt/fhir-server /opt/fhir-server"
    ]


def test_the_container_s_health_is_that_of_a_probe_of_the_product():
    command = json.loads(instruction("HEALTHCHECK").partition("CMD ")[2])
    (url,) = re.findall(r"http://127\.0\.0\.1:(\d+)(/\w+)", command[2])
    assert url[0] == instruction("EXPOSE")
    assert url[1] in {route.path for route in health_routes(lambda: None)}
    compile(command[2], "healthcheck", "exec")
    assert hasattr(urllib.request, "urlopen")


def test_the_variables_of_the_container_are_settings():
    known = {row.variable for row in explain(load_settings({}))} | {"PATH", "PYTHONDONTWRITEBYTECODE"}
    named = {word.partition("=")[0] for word in shlex.split(instruction("ENV"))}
    assert named <= known


def test_the_composed_server_may_serve(monkeypatch):
    environment = dict(word.split("=", 1) for word in shlex.split(instruction("ENV")) if word.startswith(PREFIX))
    flags = flags_of(json.loads(instruction("CMD")))
    settings = settings_with(monkeypatch, environment | service("fhir-server")["environment"], flags)
    assert may_serve(settings) is None
    assert settings.auth == "required"
    assert settings.public.startswith("https://")


def test_the_composed_server_trusts_its_own_network_alone_and_has_a_folder_that_lasts(monkeypatch):
    compose = yaml.safe_load(text_of("compose.yaml"))
    (subnet,) = [row["subnet"] for row in compose["networks"]["inside"]["ipam"]["config"]]
    assert json.loads(service("fhir-server")["environment"]["FHIR_TRUSTED_PROXIES"]) == [subnet]
    assert f"data:{instruction('VOLUME')}" in service("fhir-server")["volumes"]
    assert "data" in compose["volumes"]
    assert service("fhir-server")["expose"] == [instruction("EXPOSE")]
    assert "ports" not in service("fhir-server"), "the server is reached through the proxy alone"
    assert (
        DEPLOY / service("fhir-server")["build"]["context"] / service("fhir-server")["build"]["dockerfile"]
    ).is_file()


def test_the_composed_server_gives_away_what_it_does_not_need():
    found = service("fhir-server")
    assert found["read_only"] is True
    assert found["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in found["security_opt"]


def test_the_composed_proxy_reads_a_file_that_is_there_and_waits_for_health():
    mounted = [volume.split(":")[0] for volume in service("proxy")["volumes"] if volume.startswith("./")]
    assert [(DEPLOY / name).is_file() for name in mounted] == [True]
    assert service("proxy")["depends_on"]["fhir-server"]["condition"] == "service_healthy"


def test_whoever_stops_the_server_waits_for_its_grace():
    needed = Settings().grace + AFTER_GRACE
    assert int(service("fhir-server")["stop_grace_period"].removesuffix("s")) > needed
    assert int(unit()["Service"]["TimeoutStopSec"]) > needed


def test_the_unit_runs_a_command_of_the_product_that_may_serve(monkeypatch, tmp_path):
    section = unit()["Service"]
    flags = flags_of(shlex.split(section["ExecStart"]))
    assert str(flags["data_dir"]) == f"/var/lib/{section['StateDirectory']}"
    variable, _, path = section["Environment"].partition("=")
    assert (variable, Path(path).name) == (CONFIG_VARIABLE, "fhir-server.toml")
    settings = settings_with(monkeypatch, {CONFIG_VARIABLE: str(DEPLOY / "fhir-server.toml")}, flags)
    assert may_serve(settings) is None
    assert settings.public == "https://fhir.example.org"


def test_the_settings_file_names_settings():
    known = {row.name for row in explain(load_settings({}))}
    for name, value in tomllib.loads(text_of("fhir-server.toml")).items():
        inner = [f"{name}.{member}" for member in value] if isinstance(value, dict) else [name]
        assert set(inner) <= known


HARDENED = {
    "DynamicUser": "yes",
    "NoNewPrivileges": "yes",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "PrivateDevices": "yes",
    "CapabilityBoundingSet": "",
    "UMask": "0077",
    "LimitCORE": "0",
}


@pytest.mark.parametrize("name", HARDENED)
def test_the_unit_is_hardened_by(name):
    assert unit()["Service"][name] == HARDENED[name]


def nginx(name):
    return re.findall(rf"^\s*{name} ([^;]+);", text_of("nginx.conf"), re.MULTILINE)


def test_nginx_leads_to_the_unit_s_port():
    flags = flags_of(shlex.split(unit()["Service"]["ExecStart"]))
    assert nginx("proxy_pass") == [f"http://{flags['host']}:{flags['port']}"]


def test_caddy_leads_to_the_composed_server():
    assert re.findall(r"reverse_proxy (\S+)", text_of("Caddyfile")) == [f"fhir-server:{instruction('EXPOSE')}"]
    assert service("fhir-server") is not None


def test_proxies_tell_where_a_request_is_from_and_not_what_the_client_made_up():
    assert "X-Forwarded-For $remote_addr" in nginx("proxy_set_header")
    assert "header_up X-Forwarded-For {remote_host}" in text_of("Caddyfile")


def test_proxies_wait_longer_than_the_server_and_take_what_it_takes():
    deadline, most = Settings().limits.deadline, RestOptions().body_limit
    assert float(nginx("proxy_read_timeout")[0].removesuffix("s")) > deadline
    assert float(re.findall(r"read_timeout (\d+)s", text_of("Caddyfile"))[0]) > deadline
    assert int(nginx("client_max_body_size")[0].removesuffix("m")) << 20 == most
    assert int(re.findall(r"max_size (\d+)MiB", text_of("Caddyfile"))[0]) << 20 == most
    number, size = nginx("large_client_header_buffers")[0].split()
    assert int(size.removesuffix("k")) * 1024 >= Settings().limits.url
    assert int(number) > 1


def test_proxies_keep_the_probes_to_themselves(tmp_path):
    paths = {route.path for route in create_app(Settings(data_dir=tmp_path, auth="off")).routes}
    probes = {path for path in paths if path in ("/livez", "/readyz", "/metrics", "/health")}
    assert len(probes) == 4
    (pattern,) = re.findall(r"location ~ (\S+)", text_of("nginx.conf"))
    assert {path for path in paths if re.match(pattern, path)} == probes
    assert set(re.findall(r"@probes path (.*)", text_of("Caddyfile"))[0].split()) == probes


def test_nginx_speaks_today_s_tls_and_keeps_no_log_of_records():
    assert nginx("ssl_protocols") == ["TLSv1.2 TLSv1.3"]
    assert nginx("access_log") == ["off"]


def test_every_file_is_explained_on_the_page_about_security():
    page = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    for path in DEPLOY.iterdir():
        assert f"deploy/{path.name}" in page
