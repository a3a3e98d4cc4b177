"""Every row of every format becomes a request or an error with its line; no rows are merged or lost."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ruxa_async import CustomRequest, NanoBanana, NanoBananaEdit, NanoBananaPro, Sora2
from ruxa_async.batch import InputError, Row, open_rows
from ruxa_async.batch._input_lines import MAX_LINE, Lines
from ruxa_async.batch._input_tables import delimited


def read(tmp_path: Path, data: str | bytes, name: str = "in.jsonl", **options: object) -> list[Row]:
    path = tmp_path / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    with open_rows(path, **options) as rows:  # type: ignore[arg-type]
        return list(rows)


def prompts(rows: list[Row]) -> list[str]:
    return [row.request.input()["prompt"] if row.request else f"! {row.error}" for row in rows]


def one(rows: list[Row]) -> Row:
    (row,) = rows
    return row


def test_text_has_a_prompt_a_line(tmp_path: Path) -> None:
    rows = read(tmp_path, "a cat\r\n\n  \n\t two dogs \nlast", "in.txt")
    assert prompts(rows) == ["a cat", "two dogs", "last"]
    assert [row.line for row in rows] == [1, 4, 5]


def test_json_fields_make_the_models_request(tmp_path: Path) -> None:
    row = one(read(tmp_path, '{"prompt": "p", "aspect_ratio": "16:9", "key": "k"}'))
    assert row.request == NanoBanana(prompt="p", aspect_ratio="16:9", key="k")


def test_json_may_be_the_services_own_shape(tmp_path: Path) -> None:
    line = {
        "model": "google/nano-banana-pro",
        "input": {"prompt": "p", "resolution": "2K"},
        "callBackUrl": "http://x",
    }
    assert one(read(tmp_path, json.dumps(line))).request == NanoBananaPro(prompt="p", resolution="2k")


def test_unknown_models_take_any_field(tmp_path: Path) -> None:
    row = one(read(tmp_path, '{"model": "new/model", "id": 7, "prompt": "p", "cfg": 1.5, "none": null}'))
    assert row.request == CustomRequest(model="new/model", input={"prompt": "p", "cfg": 1.5}, key="7")


def test_many_brackets_are_not_many_levels(tmp_path: Path) -> None:
    fields = {"model": "m", "prompt": "[" * 500, "images": [["a"]] * 500}
    assert one(read(tmp_path, json.dumps(fields))).error is None


def test_rows_without_a_model_take_the_given_one(tmp_path: Path) -> None:
    rows = read(tmp_path, '{"prompt": "a"}\n{"prompt": "b", "model": "google/nano-banana"}', model="sora-2")
    assert [type(row.request) for row in rows] == [Sora2, NanoBanana]


def test_extra_takes_fields_that_the_model_does_not_have(tmp_path: Path) -> None:
    row = one(read(tmp_path, '{"prompt": "p", "extra": {"seed": 1}}'))
    assert row.request is not None
    assert row.request.input() == {"prompt": "p", "seed": 1}


def test_table_columns_fill_fields(tmp_path: Path) -> None:
    messages: list[str] = []
    data = "ID,Aspect Ratio,PROMPT,note,model\nk1,16:9,one,n,\nk2,,two,n,google/nano-banana-pro\n"
    rows = read(tmp_path, data, "in.csv", notice=messages.append)
    assert [row.request for row in rows] == [
        NanoBanana(prompt="one", aspect_ratio="16:9", key="k1"),
        NanoBananaPro(prompt="two", key="k2"),
    ]
    assert messages == ["columns that are not request fields are ignored: 'note'"]


def test_a_table_without_keys_says_which_column_would_hold_them(tmp_path: Path) -> None:
    messages: list[str] = []
    one(read(tmp_path, "name,prompt\nheron,a heron\n", "in.csv", notice=messages.append))
    assert len(messages) == 1
    assert messages[0].endswith("ignored: 'name'. Call one 'key' to name the rows and their files by it")


@pytest.mark.parametrize(
    "cell", ["http://h/a http://h/b", '"http://h/a, http://h/b"', '"[""http://h/a"", ""http://h/b""]"']
)
def test_lists_in_tables_are_split(tmp_path: Path, cell: str) -> None:
    row = one(read(tmp_path, f"prompt,image_urls\np,{cell}\n", "in.csv", model="google/nano-banana-edit"))
    assert row.request == NanoBananaEdit(prompt="p", image_urls=["http://h/a", "http://h/b"])


def test_flags_and_numbers_in_tables_are_understood(tmp_path: Path) -> None:
    row = one(
        read(tmp_path, "prompt\twatermark\tseconds\textra\np\tFALSE\t10\t{}\n", "in.tsv", model="sora-2")
    )
    assert row.request == Sora2(prompt="p", watermark=False, seconds="10")


def test_byte_order_marks_and_crlf_are_removed(tmp_path: Path) -> None:
    assert prompts(read(tmp_path, b"\xef\xbb\xbfprompt,key\r\na,1\r\n", "in.csv")) == ["a"]
    assert prompts(read(tmp_path, b"\xef\xbb\xbfa\r\nb\r\n", "in.txt")) == ["a", "b"]
    assert prompts(read(tmp_path, b'\xef\xbb\xbf{"prompt": "a"}\r\n')) == ["a"]


def test_quoted_newlines_keep_line_numbers_right(tmp_path: Path) -> None:
    rows = read(tmp_path, 'prompt,key\n"a\nb ""c""\n\nd",1\nlast,2\n', "in.csv")
    assert prompts(rows) == ['a\nb "c"\n\nd', "last"]
    assert [row.line for row in rows] == [2, 6]


TABBED = [
    ('p\tn\n"G I G" painted\tx\n', ['"G I G" painted']),
    ('p\tn\n"quoted ""it"""\tx\n', ['quoted "it"']),
    ('p\tn\n"open\tx\nnext\ty\n"third\tz\n', ['"open', "next", '"third']),
    ('p\tn\n"open\tx\nclosed"\ty\n', ['"open', 'closed"']),
    ('p\tn\n"two\nlines"\tx\nnext\ty\n', ["two\nlines", "next"]),
    ('n\tp\nx\t"two\nlines"\ny\tnext\n', ["two\nlines", "next"]),
    ('p\tn\n"a\tb"\tx\n', ["a\tb"]),
    ('p\n"open\nsecond\nend"\n', ['"open', "second", 'end"']),
    ('p\tn\n5" nail\tx\n', ['5" nail']),
    (
        'p\tn\n"\tx\n""\ty\nlast\tz',
        ['"', "! prompt='' is not valid: a text that is not empty is needed", "last"],
    ),
]


@pytest.mark.parametrize(("data", "expected"), TABBED)
def test_quotes_in_tabbed_rows_never_merge_them(tmp_path: Path, data: str, expected: list[str]) -> None:
    assert prompts(read(tmp_path, data, "in.tsv", prompt_column="p")) == expected


def test_party_prompts_are_all_there() -> None:
    path = Path("/work/shared/data/PartiPrompts.tsv")
    if not path.exists():
        pytest.skip("the data set is not on this machine")
    with open_rows(path, prompt_column="Prompt") as rows:
        read_rows = list(rows)
    lines = path.read_text().splitlines()[1:]
    assert len(read_rows) == 1_632
    assert prompts(read_rows) == [line.split("\t")[0] for line in lines]


# One bad row each, between two good ones that must survive: what it holds, and words of its error.
BAD_JSON = [
    ("{", "not JSON"),
    ("nonsense", "not JSON"),
    ('{"prompt": "x"} trailing', "Extra data"),
    ("{'prompt': 'x'}", "not JSON"),
    ('{"prompt": NaN}', "NaN"),
    ('{"prompt": "x", "prompt": "y"}', "twice"),
    ("[]", "not an array"),
    ('[{"prompt": "x"}]', "one object a line"),
    ('"text"', "not text"),
    ("17", "not a number"),
    ("true", "not true or false"),
    ("null", "not null"),
    ("{}", "'prompt' is missing"),
    ('{"prompt": null}', "'prompt' is missing"),
    ('{"prompt": ""}', "not empty"),
    ('{"prompt": " "}', "not empty"),
    ('{"prompt": 5}', "prompt=5"),
    ('{"prompt": ["x"]}', "prompt="),
    ('{"prompt": "x", "promt": "y"}', "'promt'"),
    ('{"prompt": "x", "aspect_ratio": "7:1"}', "aspect_ratio='7:1'"),
    ('{"prompt": "x", "aspect_ratio": 1}', "aspect_ratio=1"),
    ('{"prompt": "x", "image_input": "http://h/a"}', "image_input"),
    ('{"prompt": "x", "image_input": ["a.png"]}', "no local file that can be read"),
    ('{"prompt": "x", "image_input": [1]}', "image_input=1"),
    ('{"prompt": "x", "model": 5}', "model"),
    ('{"prompt": "x", "model": ""}', "model"),
    ('{"prompt": "x", "key": 1.5}', "key"),
    ('{"prompt": "x", "key": true}', "key"),
    ('{"prompt": "x", "key": {}}', "key"),
    ('{"prompt": "x", "extra": 1}', "extra=1"),
    ('{"model": "sora-2", "input": "x"}', "input: an object"),
    ('{"model": "sora-2", "input": {"prompt": "x"}, "prompt": "y"}', "'prompt' beside input"),
    ('{"model": "sora-2", "input": {"prompt": "x", "seconds": 11}}', "seconds="),
    ('{"model": "sora-2", "prompt": "x", "image_size": "1:1"}', "'image_size'"),
    ('{"model": "google/nano-banana-edit", "prompt": "x"}', "'image_urls' is missing"),
    ('{"model": "google/nano-banana-pro", "prompt": "' + "x" * 10_001 + '"}', "10,000"),
    ('{"prompt": "\\ud800"}', "surrogate"),
    ('{"prompt": ' + "[" * 100_000, "nested"),
    ('{"model": "m", "x": ' + "[" * 101 + "]" * 101 + "}", "more than 100 levels"),
    ('{"prompt": "x", "extra": ' + '{"a":' * 500 + "1" + "}" * 501, "more than 100 levels"),
    ('{"prompt": "x", "seed": ' + "1" * 5_000 + "}", "digits"),
    ('{"prompt": "a\x01b"}', "control character"),
    ('{"prompt": "a\0b"}', "NUL"),
    ('{"prompt": "' + "x" * MAX_LINE + '"}', "longer than"),
]


@pytest.mark.parametrize(("bad", "message"), BAD_JSON, ids=[message for _, message in BAD_JSON])
def test_bad_json_rows_get_an_error_and_the_others_are_read(tmp_path: Path, bad: str, message: str) -> None:
    rows = read(tmp_path, f'{{"prompt": "a"}}\n\n{bad}\n{{"prompt": "b"}}\n')
    assert [row.line for row in rows] == [1, 3, 4]
    assert [row.error is None for row in rows] == [True, False, True]
    assert message in str(rows[1].error)
    assert rows[1].request is None


BAD_CELLS = [
    ("a,16:9,,extra cell", "4 cells under 3 columns"),
    (",16:9,", "not empty"),
    ('"",16:9,', "not empty"),
    ("a,7:1,", "aspect_ratio='7:1'"),
    ("a,16:9,here.png", "no local file that can be read"),
    ("a,16:9,[1]", "image_input=1"),
    ("a,16:9,[oops", "image_input: not JSON"),
    ('"a" b,16:9,', "follows the closing quote"),
    ('a,16:9,"" x', "column 3"),
]


@pytest.mark.parametrize(("bad", "message"), BAD_CELLS, ids=[message for _, message in BAD_CELLS])
def test_bad_table_rows_get_an_error_and_the_others_are_read(tmp_path: Path, bad: str, message: str) -> None:
    rows = read(tmp_path, f"prompt,aspect_ratio,image_input\nfirst,,\n{bad}\nlast\n", "in.csv")
    assert [row.line for row in rows] == [2, 3, 4]
    assert prompts(rows)[::2] == ["first", "last"]
    assert message in str(rows[1].error)


@pytest.mark.parametrize("name", ["in.txt", "in.jsonl", "in.csv", "in.tsv"])
def test_invalid_utf_8_affects_one_row(tmp_path: Path, name: str) -> None:
    good = b'{"prompt": "a"}\n' if name == "in.jsonl" else b"a\n"
    header = b"prompt\n" if name in ("in.csv", "in.tsv") else b""
    rows = read(tmp_path, header + good + b"caf\xe9\n" + good, name)
    assert [row.error is None for row in rows] == [True, False, True]
    assert "not UTF-8 (byte 0xe9 at position 4)" in str(rows[1].error)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_is_read_by_its_byte_order_mark_and_refused_without(tmp_path: Path, encoding: str) -> None:
    text = "a cat\r\n\u010a dog\U0001f436\r\n"
    with pytest.raises(InputError, match="not text"):
        read(tmp_path, text.encode(encoding), "in.txt")
    rows = read(tmp_path, f"\ufeff{text}".encode(encoding), "in.txt")
    assert prompts(rows) == ["a cat", "\u010a dog\U0001f436"]


def test_invalid_utf_16_affects_one_row(tmp_path: Path) -> None:
    data = "\ufeffa\nb".encode("utf-16-le") + b"\x00\xd8" + "\nc\n".encode("utf-16-le") + b"x"
    rows = read(tmp_path, data, "in.txt")
    assert prompts(rows) == ["a", "! holds what is not UTF-16", "c", "! holds what is not UTF-16"]


@pytest.mark.parametrize("name", ["in.txt", "in.csv", "in.tsv"])
def test_carriage_returns_alone_end_lines(tmp_path: Path, name: str) -> None:
    header = "" if name == "in.txt" else "prompt\r"
    for end in ("", "\r", "\n", "\r\n"):
        rows = read(tmp_path, f"{header}a cat\r\ra dog\r\nlast{end}", name)
        assert prompts(rows) == ["a cat", "a dog", "last"]
        assert [row.line for row in rows] == [n + bool(header) for n in (1, 3, 4)]


def test_a_stray_carriage_return_is_part_of_its_line(tmp_path: Path) -> None:
    assert prompts(read(tmp_path, "first\na\rb\n", "in.txt")) == ["first", "a\rb"]


def test_many_lines_that_end_with_carriage_returns_are_all_there(tmp_path: Path) -> None:
    count = 3 * MAX_LINE // 128
    rows = read(tmp_path, "".join(f"{'prompt':119}{n:08}\r" for n in range(count)), "in.txt")
    assert [row.line for row in rows] == list(range(1, count + 1))
    assert prompts(rows)[-1].endswith(f" {count - 1:08}")
    assert len(set(prompts(rows))) == count


EXCEL = 'Prompt\tAspect Ratio\r\n"a ""big"" cat"\t16:9\r\na dog\t\r\n'


@pytest.mark.parametrize("name", ["in.txt", "in.csv", "in.tsv", "in"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_tables_from_excel_are_read_under_any_name(tmp_path: Path, name: str, encoding: str) -> None:
    rows = read(tmp_path, EXCEL.encode(encoding), name)
    assert [row.request for row in rows] == [
        NanoBanana(prompt='a "big" cat', aspect_ratio="16:9"),
        NanoBanana(prompt="a dog"),
    ]


def test_tabs_in_a_text_without_a_column_of_prompts_are_noticed(tmp_path: Path) -> None:
    messages: list[str] = []
    data = "Bild\tFormat\na cat\t16:9\n"
    assert len(read(tmp_path, data, "in.txt", notice=messages.append)) == 2
    assert "--prompt-column" in messages[0]
    assert prompts(read(tmp_path, data, "in.txt", prompt_column="bild")) == ["a cat"]
    assert len(read(tmp_path, EXCEL, "in.txt", format="text")) == 3


ROWS = [
    {"prompt": "a [cat], {7}", "key": "k"},
    {"prompt": "b", "aspect_ratio": "1:1"},
    {"model": "m", "x": 1.5},
]


@pytest.mark.parametrize("name", ["in.json", "in.jsonl", "in"])
@pytest.mark.parametrize("indent", [None, 0, 2])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_one_array_gives_the_same_rows_as_lines(
    tmp_path: Path, name: str, indent: int | None, end: str
) -> None:
    data = f"\n {json.dumps(ROWS, indent=indent)}\n\n".replace("\n", end)
    rows = read(tmp_path, data, name)
    assert [row.request for row in rows] == [
        NanoBanana(prompt="a [cat], {7}", key="k"),
        NanoBanana(prompt="b", aspect_ratio="1:1"),
        CustomRequest(model="m", input={"x": 1.5}),
    ]
    assert [row.line for row in rows] == ([2, 2, 2] if indent is None else [3, 7, 11])


def test_one_array_may_be_longer_than_a_line_may_be_and_hold_bad_rows(tmp_path: Path) -> None:
    data = json.dumps([{"prompt": "x" * 1000}] * 2000 + [7, {"prompt": ""}, {"prompt": "last"}])
    rows = read(tmp_path, data, "in.json")
    assert len(rows) == 2003
    assert ["" if row.error is None else str(row.error)[:30] for row in rows[1999:]] == [
        "",
        "a JSON object is needed, not a",
        "prompt='' is not valid: a text",
        "",
    ]


def test_a_json_file_may_hold_one_object_or_several_that_span_lines(tmp_path: Path) -> None:
    one_object = json.dumps({"model": "google/nano-banana", "input": {"prompt": "a"}}, indent=1)
    assert prompts(read(tmp_path, one_object, "in.json")) == ["a"]
    rows = read(tmp_path, f"{one_object}\n{one_object}", "in.json")
    assert (prompts(rows), [row.line for row in rows]) == (["a", "a"], [1, 7])
    assert prompts(read(tmp_path, '{"prompt": "a"}\n{\n{"prompt": "b"}\n', "in.json"))[::2] == ["a", "b"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ('[{"prompt": "a"}', "not closed after the value in line 1"),
        ('[{"prompt": "a"},\n]', "Expecting value in line 2|not closed"),
        ('[{"prompt": "a"}\n{"prompt": "b"}]', "not closed after the value in line 1"),
        ('[\n{"prompt": "a"},\n{"prompt": "b" "key"}]', "in line 3"),
        ('[{"prompt": "a"}]\n{"prompt": "b"}', "text follows the array"),
        ("[[1, 2], nonsense]", "in line 1"),
        ("[" * 100_000, "nested too deeply"),
        ('{\n"prompt": "a"', "not JSON"),
        ("[", "not closed"),
        (b'[{"prompt": "caf\xe9"}]', "not UTF-8 .byte 0xe9"),
        ("[]", "no rows"),
        (" [ ] ", "no rows"),
    ],
)
def test_a_document_that_is_wrong_somewhere_is_refused_as_a_whole(
    tmp_path: Path, data: str | bytes, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read(tmp_path, data, "in.json")


def test_a_document_has_a_largest_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ruxa_async.batch._input_lines._MAX_DOCUMENT", 100)
    with pytest.raises(InputError, match="one object a line"):
        read(tmp_path, json.dumps([{"prompt": "x"}] * 20, indent=1), "in.json")


BINARIES = [
    (gzip.compress(b"a cat\n" * 24, mtime=0), "compressed"),
    (bz2.compress(b"a cat\n"), "compressed"),
    (lzma.compress(b"a cat\n"), "compressed"),
    (b"PK\x03\x04" + b"sheet" * 9, "spreadsheet"),
    (b"%PDF-1.7\nprompt\n", "PDF"),
    (b"\x89PNG\r\n\x1a\n" + bytes(20), "picture"),
    (zlib.compress(bytes(range(256)) * 3), "not text"),
    (b"SQLite format 3\0" + bytes(80), "not text"),
]


@pytest.mark.parametrize(("data", "message"), BINARIES, ids=[str(n) for n in range(len(BINARIES))])
@pytest.mark.parametrize("name", ["in.txt", "in.gz", "in.csv", "in.json"])
def test_binary_input_is_refused(tmp_path: Path, data: bytes, message: str, name: str) -> None:
    with pytest.raises(InputError, match=message):
        read(tmp_path, data, name)


def test_models_that_are_not_known_are_warned_about_once(tmp_path: Path) -> None:
    messages: list[str] = []
    models = ["nano-banana", "google/nano-banana", "Google/Nano-Banana-Pro", "nano-banana", "new/thing", ""]
    data = "".join(json.dumps({"prompt": "p", "model": model}) + "\n" for model in models)
    rows = read(tmp_path, data, warn=messages.append)
    assert [row.error is None for row in rows] == [True] * 5 + [False]
    assert [sentence[:70] for sentence in messages] == [
        "model 'nano-banana' is not known here; did you mean google/nano-banana?"[:70],
        "model 'Google/Nano-Banana-Pro' is not known here; did you mean google/"[:70],
        "model 'new/thing' is not known here; known are google/nano-banana, goo"[:70],
    ]
    messages.clear()
    many = "".join(json.dumps({"prompt": "p", "model": f"new/{n}"}) + "\n" for n in range(50))
    assert len(read(tmp_path, many, warn=messages.append)) == 50
    assert len(messages) == 20


@pytest.mark.parametrize(
    "row", ['"never closed,1\nmore,2\n', '"never closed\n' + "x,1\n" * 300_000, "y" * MAX_LINE + "\nx\n"]
)
def test_lines_after_an_unclosed_quote_are_not_rows(tmp_path: Path, row: str) -> None:
    rows = read(tmp_path, f"prompt,key\na,1\n{row}", "in.csv")
    assert [r.line for r in rows] == [2, 3]
    assert "nothing after it was read" in str(rows[1].error)


def test_invalid_bytes_in_a_quoted_cell_affect_that_row_only(tmp_path: Path) -> None:
    rows = read(tmp_path, b'prompt\n"a\n\xff\nb"\nlast\n', "in.csv")
    assert [row.line for row in rows] == [2, 5]
    assert [row.error is None for row in rows] == [False, True]


@pytest.mark.parametrize(
    ("data", "column", "message"),
    [
        ("text,note\na,b\n", None, "no column is called 'prompt'.*'text', 'note'"),
        ("prompt,Prompt\na,b\n", "PROMPT", "several columns"),
        ("a,b\n1,2\n", "c", "no column is called 'c'"),
        ('"a,b\n', None, "line 1, the header"),
        (b"pr\xffompt\na\n", None, "line 1, the header"),
    ],
)
def test_a_header_without_one_column_of_prompts_is_refused(
    tmp_path: Path, data: str | bytes, column: str | None, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read(tmp_path, data, "in.csv", prompt_column=column)


def test_an_exact_column_name_wins_over_other_cases(tmp_path: Path) -> None:
    assert prompts(read(tmp_path, "prompt,Prompt\na,b\n", "in.csv", prompt_column="Prompt")) == ["b"]


@pytest.mark.parametrize("name", ["in.txt", "in.csv", "in.tsv", "in.jsonl", "in"])
@pytest.mark.parametrize("data", [b"", b"\n\n", b"\xef\xbb\xbf"])
def test_empty_input_is_refused(tmp_path: Path, name: str, data: bytes) -> None:
    with pytest.raises(InputError, match=rf"{name} holds no rows"):
        read(tmp_path, data, name)


def test_a_header_alone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no rows"):
        read(tmp_path, "prompt,key\n\n", "in.csv")


@pytest.mark.parametrize("name", ["missing.txt", "."])
def test_input_that_cannot_be_opened_is_an_input_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="cannot be read"), open_rows(tmp_path / name):
        pass


@pytest.mark.parametrize(
    ("data", "format_name"),
    [
        ('{"prompt": "a"}\n', "jsonl"),
        ("\nkey,prompt\n1,a\n", "csv"),
        ('"Prompt"\tkey\na\t1\n', "tsv"),
        ("a\n", "text"),
    ],
)
def test_the_format_follows_from_the_first_line_without_an_extension(
    tmp_path: Path, data: str, format_name: str
) -> None:
    path = tmp_path / "input"
    path.write_text(data)
    with open_rows(path) as rows:
        assert rows.format == format_name
        assert prompts(list(rows)) == ["a"]


def test_a_given_format_wins_over_the_extension(tmp_path: Path) -> None:
    assert prompts(read(tmp_path, "prompt\na\n", "in.csv", format="text")) == ["prompt", "a"]


def test_standard_input_is_read_row_by_row() -> None:
    program = (
        "import sys; from ruxa_async.batch._input_rows import open_rows\n"
        "with open_rows('-') as rows:\n"
        "    print(rows.format, rows.interactive, [row.request.prompt for row in rows])"
    )
    done = subprocess.run([sys.executable, "-c", program], input=b"a\nb", capture_output=True, check=True)
    assert done.stdout.decode().strip() == "text True ['a', 'b']"


def test_rows_are_read_as_they_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "in.txt"
    path.write_text(f"{'a line':79}\n" * 20_000)
    with open_rows(path) as rows:
        next(iter(rows))
        with path.open("ab") as more:
            more.write(b"the end\n")
        assert sum(1 for _ in rows) == 20_000


CELL = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=12) | st.text(
    '",\n\t ab', max_size=8
)
TABLE = st.integers(2, 4).flatmap(lambda n: st.lists(st.lists(CELL, min_size=n, max_size=n), max_size=8))


@given(TABLE, st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_what_csv_writes_is_read_back(table: list[list[str]], end: str, quoted: bool) -> None:
    header = [f"c{n}" for n in range(len(table[0]))] if table else ["c", "d"]
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator=end, quoting=csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL)
    writer.writerows([header, *table])
    read_back = delimited(Lines(io.BytesIO(out.getvalue().encode())), ",")
    assert [list(record.content) for record in read_back] == [header, *table]


@given(st.lists(st.tuples(st.text('"ab ', min_size=1, max_size=6), st.text('"ab ', max_size=6)), max_size=8))
def test_plain_tabbed_rows_are_counted_right(table: list[tuple[str, str]]) -> None:
    text = "".join(f"x{left}\t{right}\n" for left, right in [("p", "n"), *table])
    assert len(list(delimited(Lines(io.BytesIO(text.encode())), "\t"))) == len(table) + 1


@given(
    st.lists(st.binary(max_size=30).filter(lambda data: b"\n" not in data), max_size=6),
    st.sampled_from(["\t", ","]),
)
def test_no_bytes_crash_a_reader(lines: list[bytes], delimiter: str) -> None:
    data = b"h\n" + b"\n".join(lines)
    assert all(record.error or record.content for record in delimited(Lines(io.BytesIO(data)), delimiter))


@given(st.lists(st.text(max_size=20).map(lambda text: f"a{text}"), max_size=6))
def test_json_lines_round_trip(texts: list[str]) -> None:
    data = "".join(json.dumps({"prompt": text}) + "\n" for text in texts)
    from ruxa_async.batch._request_parser import from_json, json_row

    rows = [
        from_json(json_row(line.content), "google/nano-banana") for line in Lines(io.BytesIO(data.encode()))
    ]
    assert [row.input()["prompt"] for row in rows] == texts
