from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mvp_edge.core.errors import TaskError
from mvp_edge.names.tasks import Task, TaskClass, canonical, numbered, read_task


@pytest.fixture
def write(tmp_path: Path):
    def _write(content: str | bytes) -> Path:
        path = tmp_path / "classes.txt"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return _write


def test_names_stay_as_typed_and_in_order(write):
    task = read_task(write("sweet pepper\nn02012849\nAquarium_Fish\nblack-eyed_susan\n"))
    assert task.names == ("sweet pepper", "n02012849", "Aquarium_Fish", "black-eyed_susan")
    assert all(c.synset is None for c in task.classes)


def test_comments_blank_lines_and_synsets(write):
    text = "# birds\n\n  crane = crane.n.05  # the bird\nheron=N02012849\n\t# indented\nc#minor\npear\t# fruit\n"
    assert read_task(write(text)).classes == (
        TaskClass("crane", "crane.n.05"),
        TaskClass("heron", "n02012849"),
        TaskClass("c#minor"),
        TaskClass("pear"),
    )


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [True, False])
def test_line_endings_and_byte_order_mark(write, newline, mark, end):
    text = newline.join(["apple", "pêche"]) + newline * end
    assert read_task(write(mark + text.encode())).names == ("apple", "pêche")


def test_every_problem_is_named_with_its_line(write):
    text = b"apple\nAPPLE\npear = pear\n= orange.n.01\np\xe9ar\nbee\x07tle\n---\nfox = fox.v.01\nfox =\n"
    with pytest.raises(TaskError) as error:
        read_task(write(text))
    message = str(error.value)
    for part in (
        "classes.txt: ",
        "line 2: 'APPLE' is the same class as 'apple' in line 1",
        "line 3: 'pear' is not a noun synset; write one such as 'pear.n.01', with its number",
        "line 4: '= orange.n.01' has no class name",
        "line 5: byte 0xe9 in 'p�ar' is not UTF-8",
        "line 6: 'bee\\x07tle' has a control character",
        "line 7: '---' has no class name",
        "line 8: 'fox.v.01' is not a noun synset",
        "line 9: '' is not a noun synset",
        "line 9: 'fox' is the same class as 'fox' in line 8",
        "one class name a line",
    ):
        assert part in message
    assert "it names" not in message
    assert "\n" not in message


@pytest.mark.parametrize("code", [c for c in range(0x110000) if len(f"a{chr(c)}b".splitlines()) > 1])
def test_a_name_is_one_line_wherever_it_is_written(write, code):
    with pytest.raises(TaskError, match="line separator" if code not in (10, 13) else "same class|only"):
        read_task(write(f"be{chr(code)}e\nbe{chr(code)}e\n"))


@pytest.mark.parametrize("spelling", ["sweet pepper", "Sweet-Pepper", " SWEET__PEPPER "])
def test_duplicates_under_canonical(write, spelling):
    with pytest.raises(TaskError, match="line 3: .*'sweet_pepper' in line 1"):
        read_task(write(f"sweet_pepper\napple\n{spelling}\n"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "it names no class"),
        ("\ufeff", "it names no class"),
        ("\n# apple\n  \n", "it names no class"),
        ("apple\n", "it names only one class"),
        ("apple\napple\n", "line 2: .* in line 1; it names only one class"),
    ],
)
def test_fewer_than_two_classes(write, content, message):
    with pytest.raises(TaskError, match=message):
        read_task(write(content))


@pytest.mark.parametrize(
    ("encoding", "name"), [("utf-16", "UTF-16"), ("utf-32", "UTF-32"), ("utf-16-be", None), ("utf-16-le", None)]
)
def test_wide_encodings(write, encoding, name):
    with pytest.raises(TaskError, match=f"{name}.*iconv -f {name}" if name else "is a binary file"):
        read_task(write("apple\npear\n".encode(encoding)))


def test_binary_and_huge_files(write):
    with pytest.raises(TaskError, match="is a binary file"):
        read_task(write(b"\x89PNG\r\n\x1a\n\0\0\0"))
    with pytest.raises(TaskError, match="larger than 1024 KiB"):
        read_task(write(b"a\n" * (1 << 20)))


def test_missing_file_directory_and_unreadable_file(tmp_path):
    with pytest.raises(TaskError, match=r"no such file.*printf"):
        read_task(tmp_path / "classes.txt")
    with pytest.raises(TaskError, match="is a directory"):
        read_task(tmp_path)
    with pytest.raises(TaskError, match=r"cannot be read: .+"):
        read_task(tmp_path / ("x" * 300))


def test_a_file_in_the_place_of_a_directory(write):
    with pytest.raises(TaskError, match="Not a directory"):
        read_task(write("apple\npear\n") / "classes.txt")


@pytest.mark.parametrize("content", ["apple,orange,pear\n", "apple; orange\n", "apple, pear\napple, pear\n"])
def test_classes_that_are_separated_by_commas(write, content):
    with pytest.raises(TaskError, match="one class a line"):
        read_task(write(content))
    assert read_task(write("tench, Tinca tinca\napple\n")).names == ("tench, Tinca tinca", "apple")


def test_standard_input(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"apple\npear\n")))
    assert read_task(Path("-")).names == ("apple", "pear")
    with pytest.raises(TaskError, match="names no class"):
        read_task(Path("-"))


def test_id_ignores_order_and_spelling_only():
    def id_of(*names: str) -> str:
        return Task(tuple(map(TaskClass, names))).id

    assert id_of("sweet pepper", "apple") == id_of("Apple", "sweet_pepper")
    assert id_of("apple", "pear") != id_of("apple", "pears")


def test_classes_are_known_by_name_unless_they_mean_something_else():
    known = Task((TaskClass("mouse", "mouse.n.01"), TaskClass("Sweet-Pepper", "sweet_pepper.n.02"), TaskClass("zxqv")))
    device, word, plain = TaskClass("Mouse", "mouse.n.04"), TaskClass("zxqv", "apple.n.01"), TaskClass("mouse")
    pepper, other = TaskClass("sweet pepper", "sweet_pepper.n.02"), TaskClass("rat", "mouse.n.01")
    assert Task((device, word, plain, pepper, other)).unknown_to(known) == (device, other)
    assert known.called("MOUSE") == known.classes[0] and known.called("rat") is None


def test_canonical_joins_words_and_composes_accents():
    assert canonical("  Black-eyed\u00a0 SUSAN_ ") == "black_eyed_susan"
    assert canonical("pe\u0302che") == canonical("p\u00eache")


LETTERS = st.sampled_from("aAbZ7\u00e9\u00c9\u0301\u0131\u0130\u00df\u03a3\u03c2\u01c5\u212b\u4e2d")
JOINTS = st.sampled_from("-_ \u00a0\u2003")
FEW = settings(max_examples=50, deadline=None)


@FEW
@given(st.text(LETTERS | JOINTS, max_size=12))
def test_canonical_is_idempotent(name):
    assert canonical(canonical(name)) == canonical(name)


NAMES = st.text(LETTERS, min_size=1, max_size=8)


@FEW
@given(st.lists(NAMES, min_size=2, max_size=8, unique_by=canonical))
def test_what_is_written_is_read(tmp_path_factory, names):
    path = tmp_path_factory.mktemp("task") / "classes.txt"
    path.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    assert read_task(path).names == tuple(names)


@FEW
@given(st.binary(max_size=200))
def test_any_bytes_give_a_task_or_a_task_error(tmp_path_factory, raw):
    path = tmp_path_factory.mktemp("task") / "classes.txt"
    path.write_bytes(raw)
    try:
        names = read_task(path).names
    except TaskError:
        return
    assert len(set(map(canonical, names))) == len(names) >= 2


def test_names_are_numbered_in_any_spelling() -> None:
    assert numbered(["Sweet Pepper", "apple"]) == {"sweet_pepper": 0, "apple": 1}


@pytest.mark.parametrize("line", ["- dog", "* dog", "\N{BULLET} dog", '"dog"', "'dog'", "`dog`", "- dog = dog.n.01"])
def test_marks_of_a_document_are_no_part_of_a_name(tmp_path: Path, line: str) -> None:
    file = tmp_path / "classes.txt"
    file.write_text(f"rock 'n' roll\n'n' and 'm'\n{line}\n", encoding="utf-8")
    with pytest.raises(TaskError, match="line 3: .* has a bullet or quotes; write only the name: dog"):
        read_task(file)
