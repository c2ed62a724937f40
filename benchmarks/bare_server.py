"""The floor for the start of an MCP server: the SDK's own server and transport with one tool, and nothing else."""

from mcp.server import MCPServer

server = MCPServer("bare")


@server.tool()
def echo(text: str) -> str:
    """Say it again."""
    return text


if __name__ == "__main__":
    server.run("stdio")
