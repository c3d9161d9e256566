"""The console: the page that people see at `/`, where the package vla-console is installed and VLA_CONSOLE is on."""

from starlette.routing import Route

from vla_server_base.config import ServerConfig


def console_routes(config: ServerConfig, model_id: str) -> list[Route]:
    """Return the routes of the page; without it, `/` shows what `front_page` says."""
    if config.console == "off":
        return []
    try:
        from vla_console.page import ServerEntry, is_built, page_routes
    except ImportError:  # the extra `console`
        return []

    async def list_servers() -> list[ServerEntry]:
        return [ServerEntry(name=model_id, base="/")]

    return page_routes(list_servers) if is_built() else []
