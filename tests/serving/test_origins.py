"""Who may ask a server: not the pages of other sites, not under other names, and in JSON that says so."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.command import edgepeft
from tests.serving.test_serve import Server, served, serving

BODY = json.dumps(
    {"model": "cpu-int4", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
)
PATH = "/v1/chat/completions"


@pytest.fixture(scope="module")
def server(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = Path(shutil.copytree(tiny_bundle, tmp_path_factory.mktemp("served") / "bundle"))
    with served(folder) as running:
        yield running


def post(server: Server, **headers: str) -> tuple[int, str]:
    """Status and error message of a request that is right but for its headers."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    status, text = server.request("POST", PATH, BODY, named)
    answer = json.loads(text)
    return status, answer.get("error", {}).get("message", "")


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("application/json", 200),
        ("application/json; charset=utf-8", 200),
        ('Application/JSON; charset="UTF-8"', 200),
        ("text/plain", 415),
        ("text/plain; application/json", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data; boundary=x", 415),
        ("application/json; charset=utf-16", 415),
        ("application/jsonp", 415),
        ("", 415),
    ],
)
def test_a_body_must_say_that_it_is_json(server: Server, kind: str, status: int) -> None:
    assert post(server, Content_Type=kind)[0] == status


def test_a_compressed_body_is_refused(server: Server) -> None:
    assert post(server, Content_Encoding="gzip")[0] == 415
    assert post(server, Content_Encoding="identity")[0] == 200


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "https://evil.example", "null", "", "file://", "http://[", "x"],
)
def test_a_page_of_another_site_is_refused(server: Server, origin: str) -> None:
    status, said = post(server, Origin=origin)
    assert status == 403
    assert "may not ask this server" in said


def test_a_page_on_this_machine_at_another_port_is_another_site(server: Server) -> None:
    assert post(server, Origin="http://127.0.0.1:1")[0] == 403
    assert post(server, Origin=f"http://{server.host}")[0] == 200
    assert post(server, Sec_Fetch_Site="cross-site")[0] == 403
    assert post(server, Sec_Fetch_Site="same-origin")[0] == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "[", "x@y"]
)
def test_a_name_that_was_pointed_here_is_refused(server: Server, host: str) -> None:
    for method, body in (("GET", None), ("POST", BODY)):
        path = PATH if body else "/v1/models"
        status, text = server.request(method, path, body, {"Host": host})
        assert status == 400
        assert "does not answer to the host" in json.loads(text)["error"]["message"]
    assert post(server, Host=host, Origin=f"http://{host}")[0] == 400


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1", "[::1]:8000"])
def test_names_of_this_machine_are_answered(server: Server, host: str) -> None:
    assert post(server, Host=host)[0] == 200


def test_a_server_answers_to_the_address_that_it_was_given(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    running = serving(folder, "--host", "127.0.0.2")
    try:
        assert running.host.startswith("127.0.0.2:")
        assert post(running)[0] == 200
    finally:
        running.process.terminate()
        running.process.wait(timeout=30)


@pytest.mark.parametrize("host", ["a" * 300, "not a name", "\udcff", "256.0.0.1"])
def test_a_host_that_is_none_is_one_line(tiny_bundle: Path, host: str) -> None:
    done = edgepeft("serve", tiny_bundle, "--host", host, "--port", 0)
    assert done.returncode in (1, 2)
    assert done.stderr.count("Traceback") == 0
    assert done.stderr.splitlines()[-1].startswith("edgepeft: ")


def test_no_other_site_is_let_in_by_a_preflight(server: Server) -> None:
    import http.client

    connection = http.client.HTTPConnection(server.host, timeout=30)
    for origin in ("http://evil.example", f"http://{server.host}"):
        headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        connection.request("OPTIONS", PATH, headers=headers)
        response = connection.getresponse()
        assert response.status in (403, 405)
        assert not [name for name, _ in response.getheaders() if name.lower().startswith("access")]
        assert json.loads(response.read())["error"]["type"] == "invalid_request_error"
    connection.close()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", PATH, 405),
        ("DELETE", "/v1/models", 405),
        ("GET", "/v1/completions", 405),
        ("GET", "/v1/responses", 404),
        ("GET", "/", 404),
        ("GET", "/v1/models/\x1b%1b[2J", 404),
        ("GET", "/v1/models/%ff", 404),
        ("GET", "/v1/models/..%2f..%2fetc", 404),
    ],
)
def test_every_refusal_is_openais_error_object(
    server: Server, method: str, path: str, status: int
) -> None:
    got, text = server.request(method, path.replace("\x1b", ""))
    assert got == status
    error = json.loads(text)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert "\x1b" not in error["message"]


def test_unknown_fields_are_refused_by_the_server_too(server: Server) -> None:
    body = json.dumps({**json.loads(BODY), "min_p": 0.1})
    status, text = server.request("POST", PATH, body)
    assert status == 400
    assert json.loads(text)["error"]["param"] == "min_p"
