"""OpenStack's command line, `openstack`: imported once, and forked for each command."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple, Self

#: Reads commands as lines of JSON, and answers each with its exit code and what it has written. A command that takes a
#: minute is killed. Without this each command would import for 1.5 s of CPU time.
SERVE = """\
import json, os, signal, sys, tempfile, traceback
sys.argv = ["openstack"]
from openstackclient.shell import main

def run(command, out, err):
    signal.alarm(60)
    os.environ["OS_CLIENT_CONFIG_FILE"] = command["clouds"]
    for number, file in enumerate((open(os.devnull), out, err)):
        os.dup2(file.fileno(), number)
    sys.argv = ["openstack", *command["arguments"]]
    try:
        code = main()
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))

for line in sys.stdin:
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if not child:
            run(json.loads(line), out, err)
        done = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])]
        for file in (out, err):
            file.seek(0)
            done.append(file.read().decode())
    print(json.dumps(done), flush=True)
"""


class Done(NamedTuple):
    """What became of a command."""

    returncode: int
    stdout: str
    stderr: str


class OpenStackClient:
    """Runs commands one after the other, with nothing of OpenStack in their environment."""

    def __enter__(self) -> Self:
        own = {name: value for name, value in os.environ.items() if not name.startswith("OS_")}
        self._server = subprocess.Popen(
            [sys.executable, "-c", SERVE], env=own, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._server.communicate()  # the end of its input is its end

    def run(self, clouds: Path, *arguments: str) -> Done:
        """Run `openstack` with these arguments and a file clouds.yaml."""
        assert self._server.stdin is not None and self._server.stdout is not None
        print(json.dumps({"clouds": str(clouds), "arguments": arguments}), file=self._server.stdin, flush=True)
        return Done(*json.loads(self._server.stdout.readline()))
