"""Earlier versions of the gateway: one that runs, and what they have left in MongoDB."""

import os
import subprocess
import sys
from pathlib import Path

from functional.services.gateway import Gateway, Options
from functional.services.process import Missing
from storage.mongodb import MongoDBStore

ROOT = Path(__file__).parents[1]

#: Runs the `marconi` of the packages that are found first.
MARCONI = "from gateway.cli import main; raise SystemExit(main())"


def commit_before(path: str) -> str:
    """The last commit without a file or folder. Raises Missing if this is no clone, or one without history."""
    added = _git("log", "--diff-filter=A", "--format=%H", "--", path).split()
    if _git("rev-parse", "--is-shallow-repository").strip() != "false" or not added:
        raise Missing(f"this clone has no history of {path}: git fetch --unshallow")
    return _git("rev-parse", f"{added[-1]}^").strip()


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, timeout=60)
    except FileNotFoundError:
        raise Missing("git is not installed") from None
    if done.returncode:
        raise Missing(f"git says nothing of earlier versions: {done.stderr.strip()}")
    return done.stdout


class EarlierGateway(Gateway):
    """The gateway as it was at a commit, with the libraries of today."""

    def __init__(self, options: Options, commit: str) -> None:
        super().__init__(options)
        self.name = "earlier gateway"
        self._packages = self.folder / "packages"
        self._packages.mkdir()
        archive = subprocess.run(
            ["git", "-C", str(ROOT), "archive", commit, "bridges", "gateway", "storage"],
            capture_output=True, check=True, timeout=60,
        )
        subprocess.run(["tar", "-x", "-C", str(self._packages)], input=archive.stdout, check=True, timeout=60)

    def command(self) -> list[str]:
        return [sys.executable, "-c", MARCONI, *super().command()[1:]]

    def environment(self) -> dict[str, str]:
        return super().environment() | {"PYTHONPATH": f"{self._packages}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}


def adopted(store: MongoDBStore, q: str) -> str:
    """A queue from the time when the key of a queue was its name; the key."""
    project, _, name = q.rpartition("/")
    store._database.queues.insert_one({"_id": q, "p": project, "n": name, "m": b"{}", "v": 1})
    store.catalogue.create_queue(q, None)
    return q
