"""The plain page at `/`, which is shown where the console is off or not installed."""

import html
import re
import shlex
import subprocess

import httpx
import pytest
from echo_server import echo_app, wait_until_healthy

from vla_server_base.schemas.status import HealthReply
from vla_server_base.server.front_page import front_page
from vla_server_base.server.uvicorn_server import serving


@pytest.fixture(scope="module")
def client():
    with serving(echo_app(console="off")) as url, httpx.Client(base_url=url, timeout=30) as client:
        wait_until_healthy(url)
        yield client


def test_it_says_what_is_served_and_its_links_lead_somewhere(client):
    page = client.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "<h1>echo</h1>" in page.text
    assert "healthy" in page.text
    links = re.findall(r'<a href="([^"]+)"', page.text)
    assert {"docs", "health", "info"} <= set(links)
    assert all(client.get(f"/{link}").status_code == 200 for link in links)


def test_its_first_command_works_as_it_stands(client):
    (command, _) = re.findall(r"<pre>(.*?)</pre>", client.get("/").text, re.DOTALL)
    answer = subprocess.run(html.unescape(command), shell=True, capture_output=True, text=True, check=True)
    assert '"action":' in answer.stdout


def test_what_is_not_ours_cannot_become_part_of_the_page_or_of_a_command():
    health = HealthReply(status="broken", model="<script>", model_status="broken", reason="<b>")
    page = front_page(health, "http://a$(reboot)/", "off")
    assert "<script>" not in page
    assert "<b>" not in page
    (command, _) = re.findall(r"<pre>(.*?)</pre>", page, re.DOTALL)
    assert "http://a$(reboot)/predict" in shlex.split(html.unescape(command).replace("|", ""))
    assert "'http://a$(reboot)/predict'" in html.unescape(command)
