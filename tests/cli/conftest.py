from fakes.fixtures import world

__all__ = ["world"]
