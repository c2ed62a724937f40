"""clinvk: one MCP server, command and gateway through which any agent uses every agent CLI on the machine.

Importing this package imports nothing else, so that `clinvk version` starts fast.
"""

__version__ = "0.1.0"
