"""The page at `/`: what is served here, whether it answers, where to go on, and a command that works."""

import html
import shlex
from string import Template
from typing import Literal

from vla_server_base import __version__
from vla_server_base.schemas.status import HealthReply

_SCENE = "panda/tabletop"
_LINKS = {
    "docs": "the API, to click through",
    "redoc": "the same, to read",
    "health": "whether the policy answers",
    "info": "what is served, on what, and within which limits",
    "scenes": "the scenes that ship with the server",
    "sessions": "the robots' sessions that are held",
}
_CONSOLE = {
    "on": "The console, which shows scenes and episodes here, is not installed: install vla-server-base[console].",
    "off": "The console, which shows scenes and episodes here, is off: VLA_CONSOLE=on shows it.",
}
_PAGE = Template("""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>VLA server: $model</title>
<link rel="icon" href="data:,">
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 3rem auto; padding: 0 1rem; }
pre { background: #f4f4f4; color: #111; padding: 1rem; white-space: pre-wrap; }
.healthy { color: #176b2c; } .loading, .stopping { color: #8a5a00; } .broken { color: #b00020; }
</style>
<h1>$model</h1>
<p>A vision-language-action policy, served: <strong class="$status">$status</strong>$reason</p>
<ul>
$links
</ul>
<p>$console</p>
<p>A scene and an instruction, answered with an action:</p>
<pre>$scene_command</pre>
<p>An image from your robot's own camera:</p>
<pre>$image_command</pre>
<p>openpi's clients find their WebSocket at this address. vla-servers $version</p>
</html>
""")


def front_page(health: HealthReply, base_url: str, console: Literal["on", "off"]) -> str:
    """Return the page; `base_url` is the address by which the client reached this server.

    It is shown where `console` is off, or the package of the console is missing.
    """
    base_url = base_url.rstrip("/")
    scene, predict = (shlex.quote(f"{base_url}/{path}") for path in (f"scenes/{_SCENE}", "predict"))
    instruction = "-F instruction='pick up the red cube'"
    shown = {
        "model": health.model,
        "status": health.status,
        "reason": f": {health.reason}" if health.reason else "",
        "scene_command": f"curl -s {scene} |\n  curl -s {predict} {instruction} -F xml=@-",
        "image_command": f"curl -s {predict} {instruction} -F image=@photo.jpg",
        "console": _CONSOLE[console],
        "version": __version__,
    }
    links = "\n".join(f'<li><a href="{path}">/{path}</a>: {what}</li>' for path, what in _LINKS.items())
    return _PAGE.substitute({name: html.escape(text) for name, text in shown.items()}, links=links)
