"""What a message carries besides its words."""

from __future__ import annotations

from pathlib import Path

import pytest

from chatmem.errors import WrongUse
from chatmem.repl.attach import Pastes, with_files


def test_a_file_named_with_an_at_sign_is_attached_and_its_size_said(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("line one\n```\ncode\n")
    said: list[str] = []
    text = with_files(f"See @{tmp_path}/notes.txt, please.", said.append)
    assert (
        text == f"See @{tmp_path}/notes.txt, please.\n\nnotes.txt:\n````\nline one\n```\ncode\n````"
        and "18 characters" in said[0]
    )


def test_a_file_that_a_paste_names_is_not_attached(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("key")
    pastes, said = Pastes(), list[str]()
    text = pastes.whole(pastes.shown(f"look @{tmp_path}/secret please"))
    assert with_files(text, said.append, pastes.named) == text and "not attached" in said[0]
    assert "key" in with_files(f"look @{tmp_path}/secret please", said.append)


def test_a_name_with_spaces_is_quoted(tmp_path: Path) -> None:
    (tmp_path / "my notes.txt").write_text("hello")
    assert "hello" in with_files(f'@"{tmp_path}/my notes.txt"')


@pytest.mark.parametrize("text", ["mail a@b.example", "@nobody said so", "@", "a @ b"])
def test_a_word_that_names_no_file_stays_a_word(text: str) -> None:
    assert with_files(text) == text


@pytest.mark.parametrize("text", ["see @/no/such/file", 'see @"no such.txt"', "see @/tmp/"])
def test_a_path_that_leads_nowhere_is_said_and_not_sent(text: str) -> None:
    with pytest.raises(WrongUse):
        with_files(text)
    assert with_files(text, pasted={"/no/such/file", "no such.txt", "/tmp/"}) == text


@pytest.mark.parametrize("data", [b"\x89PNG\0\0", b"\xff\xfe\xfa"])
def test_a_binary_file_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.png").write_bytes(data)
    with pytest.raises(WrongUse, match="no text file"):
        with_files(f"@{tmp_path}/x.png")


def test_a_huge_file_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(WrongUse, match="MB long"):
        with_files(f"@{tmp_path}/huge")


def test_two_pastes_of_one_size_are_told_apart() -> None:
    pastes = Pastes()
    one, two = "a\n" * 1500, "b\n" * 1500
    marks = [pastes.shown(one), pastes.shown(two), pastes.shown(one)]
    assert marks == ["[pasted 1500 lines]", "[pasted 1500 lines #2]", "[pasted 1500 lines]"]
    assert pastes.whole(f"{marks[0]} and {marks[1]}") == f"{one} and {two}"
    assert pastes.shown("short") == "short"
