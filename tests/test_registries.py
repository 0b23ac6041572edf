"""The project names no package registry's host: which index packages come from is the business of who installs it."""

import os
from pathlib import Path

ROOT = Path(__file__).parents[1]

#: In two parts each, or this file would name them.
HOSTS = [
    "".join(parts) for parts in (
        ("pypi", ".org"), ("pythonhosted", ".org"), ("pypi.python", ".org"), ("npmjs", ".org"), ("npmjs", ".com"),
        ("crates", ".io"), ("rubygems", ".org"), ("proxy.golang", ".org"), ("anaconda", ".org"), ("docker", ".io"),
    )
]


#: Folders that are no part of the project: what is made, and hidden ones but for the continuous integration's.
MADE = {"__pycache__", "var", "build"}


def test_no_file_names_a_registrys_host() -> None:
    files = []
    for folder, below, names in os.walk(ROOT):
        below[:] = [
            name for name in below
            if name == ".ci" or not (name.startswith(".") or name in MADE or name.endswith(".egg-info"))
        ]
        files += [Path(folder, name) for name in names]
    assert len(files) > 100
    named = {
        f"{file.relative_to(ROOT)}: {host}"
        for file in files
        for host in HOSTS if host in file.read_text(encoding="utf-8", errors="replace").lower()
    }
    assert named == set()
