"""Files that the user names are regular files of limited size. Reading anything else neither hangs nor takes memory."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from chatmem.errors import UsageError
from chatmem.input_files import open_input, read_input, read_stream
from tests.conftest import Run


@pytest.fixture(params=["fifo", "device", "directory"])
def not_a_file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "input"
    if request.param == "fifo":
        os.mkfifo(path)
    elif request.param == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    return path


def test_only_regular_files_are_opened(not_a_file: Path) -> None:
    with pytest.raises(UsageError, match=r"'input' is (not a regular file|a directory)"):
        open_input(not_a_file)


def test_commands_refuse_what_is_not_a_regular_file(
    not_a_file: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for command in (["import", str(not_a_file)], ["ask", "-m", "offline", "--system", f"@{not_a_file}", "hi"]):
        done = run(*command)
        assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    monkeypatch.setenv("CHATMEM_CONFIG", str(not_a_file))
    assert run("models").returncode == 2


def test_a_file_of_the_kernel_neither_blocks_nor_is_read_to_its_end(run: Run) -> None:
    for path in ("/proc/kmsg", "/proc/self/pagemap", "/proc/kcore"):
        if os.access(path, os.R_OK):
            done = run("import", path)
            assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr


def test_a_file_is_read_up_to_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "input"
    path.write_bytes(b"x" * (2 << 20))
    assert len(read_input(path, 2 << 20)) == 2 << 20
    with pytest.raises(UsageError, match="'input' is larger than 1 MB"):
        read_input(path, 1 << 20)


def test_more_input_than_the_limit_is_refused_and_not_cut() -> None:
    assert read_stream(io.BytesIO(b"x" * (1 << 20)), 1 << 20) == b"x" * (1 << 20)
    with pytest.raises(UsageError, match="larger than 1 MB"):
        read_stream(io.BytesIO(b"x" * ((1 << 20) + 1)), 1 << 20)
