"""Files and pastes that are attached to a message."""

from __future__ import annotations

from pathlib import Path

import pytest

from chatmem.errors import UsageError
from chatmem.repl.attachments import PasteBuffer, attach_files
from tests.fakes import Notices


def test_a_file_named_with_an_at_sign_is_attached_and_its_size_reported(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("line one\n```\ncode\n")
    notices = Notices()
    text = attach_files(f"See @{tmp_path}/notes.txt, please.", notices)
    assert (
        text == f"See @{tmp_path}/notes.txt, please.\n\nnotes.txt:\n````\nline one\n```\ncode\n````"
        and "18 characters" in notices[0]
    )


def test_a_file_that_a_paste_names_is_not_attached(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("key")
    pastes, notices = PasteBuffer(), Notices()
    text = pastes.expand(pastes.placeholder(f"look @{tmp_path}/secret please"))
    assert attach_files(text, notices, pastes.named_files) == text and "not attached" in notices[0]
    assert "key" in attach_files(f"look @{tmp_path}/secret please", notices)


def test_a_name_with_spaces_is_quoted(tmp_path: Path) -> None:
    (tmp_path / "my notes.txt").write_text("hello")
    assert "hello" in attach_files(f'@"{tmp_path}/my notes.txt"')


@pytest.mark.parametrize("text", ["mail a@b.example", "@nobody said so", "@", "a @ b"])
def test_a_word_that_names_no_file_is_unchanged(text: str) -> None:
    assert attach_files(text) == text


@pytest.mark.parametrize("text", ["see @/no/such/file", 'see @"no such.txt"', "see @/tmp/"])
def test_a_path_without_a_file_is_an_error(text: str) -> None:
    with pytest.raises(UsageError):
        attach_files(text)
    assert attach_files(text, pasted={"/no/such/file", "no such.txt", "/tmp/"}) == text


@pytest.mark.parametrize(("mention", "problem"), [("missing.txt", "does not exist"), ("sub", "is a directory")])
def test_a_missing_file_and_a_directory_are_refused_even_without_a_slash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mention: str, problem: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    with pytest.raises(UsageError, match=f"'{mention}' {problem}"):
        attach_files(f"what is in @{mention}?")
    assert attach_files(f"@{mention} here", pasted={mention}) == f"@{mention} here"


def test_words_that_look_like_files_or_addresses_are_sent_with_a_notice() -> None:
    notices = Notices()
    for text in ("ask @example.org now", "read @https://example.org/a//b?c=1 for me"):
        assert attach_files(text, notices) == text
    assert notices[0] == "Sent as words: @example.org. The file does not exist."
    assert notices[1] == "Sent as words: @https://example.org/a//b?c=1. Web pages are not fetched."


@pytest.mark.parametrize(
    "data", [b"%PDF-1.4\n1 0 obj\n<<>>\nendobj\n", b"{\\rtf1 text}", b"\x89PNG\0\0", b"\xff\xfe\xfa"]
)
def test_a_binary_file_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.png").write_bytes(data)
    with pytest.raises(UsageError, match="not a text file"):
        attach_files(f"@{tmp_path}/x.png")


def test_a_huge_file_is_refused_without_reading_it(tmp_path: Path) -> None:
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(UsageError, match="'huge' is larger than 4 MB"):
        attach_files(f"@{tmp_path}/huge")


def test_two_pastes_of_one_size_have_different_placeholders() -> None:
    pastes = PasteBuffer()
    one, two = "a\n" * 1500, "b\n" * 1500
    marks = [pastes.placeholder(one), pastes.placeholder(two), pastes.placeholder(one)]
    assert marks == ["[pasted 1500 lines]", "[pasted 1500 lines #2]", "[pasted 1500 lines]"]
    assert pastes.expand(f"{marks[0]} and {marks[1]}") == f"{one} and {two}"
    assert pastes.placeholder("short") == "short"


def test_nothing_is_said_to_be_attached_if_another_file_is_missing(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "my list.txt").write_text("hello")
    notices = Notices()
    with pytest.raises(UsageError, match="Nothing was sent") as caught:
        attach_files(f"@{tmp_path}/notes.txt and @{tmp_path}/missing.txt", notices)
    assert notices == [] and caught.value.hint == ""
    with pytest.raises(UsageError) as caught:
        attach_files(f"see @{tmp_path}/my list.txt", notices)
    assert "Quote a path" in caught.value.hint
