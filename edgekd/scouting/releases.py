"""Releases: by which ones of a package what a scout found out is told apart."""

from __future__ import annotations

from importlib import metadata


def release(package: str) -> str:
    """Of an installed package; empty where there is none."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
