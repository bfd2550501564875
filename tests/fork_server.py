"""Imports once, then runs the cheap experiment in forked children that it may kill.

Reads one JSON request a line: ``folder``, ``config`` and optionally ``kill_after`` (seconds until
SIGKILL), ``kill_at`` (the child kills itself before its k-th statement or file), ``file_limit``
(bytes a file may have). Answers with one JSON line: ``status`` (exit code, -9 if killed),
``text`` (the error), ``num_writes``.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sqlite3
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import torch

import runs_help
from critwin.errors import CritwinError
from critwin.runs import executor, files, ledger
from critwin.runs.folder import environment

NUM_WRITES = 0
LIMIT: int | None = None


def count_write() -> None:
    global NUM_WRITES
    NUM_WRITES += 1
    if LIMIT == NUM_WRITES:
        os.kill(os.getpid(), signal.SIGKILL)


class Counting(sqlite3.Connection):
    """A connection that counts its statements, reading ones too."""

    def execute(self, *args: Any) -> Any:
        count_write()
        return super().execute(*args)

    def executemany(self, *args: Any) -> Any:
        count_write()
        return super().executemany(*args)

    def executescript(self, *args: Any) -> Any:
        count_write()
        return super().executescript(*args)


def child(request: dict[str, Any], answer: int) -> None:
    global LIMIT
    torch.set_num_threads(1)
    status, text = 0, ""
    LIMIT = request.get("kill_at")
    connect, write = sqlite3.connect, files.write_atomic

    def counting_connect(*args: Any, **options: Any) -> Any:
        return connect(*args, factory=Counting, **options)

    def counting_write(*args: Any) -> None:
        count_write()
        write(*args)
        count_write()

    ledger.sqlite3.connect = counting_connect  # type: ignore[attr-defined]
    for module in (files, executor, sys.modules["critwin.runs.folder"]):
        module.write_atomic = counting_write  # type: ignore[attr-defined]
    if "file_limit" in request:
        limit = request["file_limit"]
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        runs_help.start(
            Path(request["folder"]), request["config"], images=request.get("images", False)
        )
    except CritwinError as error:
        status, text = 2, str(error)
    except BaseException as error:
        status, text = 1, repr(error)
    os.write(answer, json.dumps({"text": text, "num_writes": NUM_WRITES}).encode())
    os._exit(status)


def serve() -> None:
    environment()  # read once, for all children
    for line in sys.stdin:
        request = json.loads(line)
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(read)
            child(request, write)
        os.close(write)
        if "kill_after" in request:
            deadline = time.monotonic() + request["kill_after"]
            while time.monotonic() < deadline:
                found, _ = os.waitpid(pid, os.WNOHANG)
                if found:
                    break
                time.sleep(0.001)
            else:
                os.kill(pid, signal.SIGKILL)
                found = 0
            status = 0 if found else os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        else:
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        with os.fdopen(read, "rb") as stream:
            text = stream.read().decode()
        answer = json.loads(text) if text else {}
        print(json.dumps({"status": status, **answer}), flush=True)  # noqa: T201


if __name__ == "__main__":
    serve()
