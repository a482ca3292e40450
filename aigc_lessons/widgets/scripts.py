"""Scripts of explorers, put together: a browser receives one for each, and cannot fetch what several share."""

from pathlib import Path


def script(*names: str) -> str:
    """The text of these files of this folder, one after the other."""
    return "\n".join(Path(__file__).with_name(name).read_text(encoding="utf-8") for name in names)
