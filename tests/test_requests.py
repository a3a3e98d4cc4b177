"""Requests send what the service documents, and refuse other values before anything is sent."""

from __future__ import annotations

import copy
import enum
import hashlib
import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ruxa_async import (
    CustomRequest,
    GenerationRequest,
    NanoBanana,
    NanoBananaEdit,
    NanoBananaPro,
    RequestValidationError,
    RuxaError,
    Sora2,
    Sora2HD,
)
from ruxa_async.requests import local_files, request_class, with_links

relaxed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
URL = "https://files.example/cat.png"
URLS = [f"https://files.example/{n}.png" for n in range(9)]
RATIOS = ("1:1", "9:16", "16:9", "3:4", "4:3", "3:2", "2:3", "5:4", "4:5", "21:9", "auto")
TYPED: tuple[type[GenerationRequest], ...] = (NanoBanana, NanoBananaEdit, NanoBananaPro, Sora2, Sora2HD)
EVERY = (*TYPED, CustomRequest)

NOT_UPLOADED = (
    "the service takes http(s) URLs only: upload the file to a place where the service can download it"
)
LOCAL = "this is neither an http(s) URL nor a local file that can be read"
SCHEME = f"another scheme cannot be sent; {NOT_UPLOADED}"
DATA = f"a data: URI cannot be sent; {NOT_UPLOADED}"
NO_TEXT = "a text that is not empty is needed"
NO_HOST = "a URL needs a host and holds no spaces or control characters"
URL_TEXT = "an http(s) URL as text, or a local file as path or bytes, is needed"
A_LIST = "a list of http(s) URLs is needed"
A_RATIO = f"one of {', '.join(RATIOS)} is needed"
A_FLAG = "True or False is needed"
A_SPAN = 'two seconds as "start,end" are needed, as in "1,3"'
A_MAPPING = "a mapping with text keys is needed"
A_TEXT = "a text is needed"


def minimal(cls: type[GenerationRequest]) -> dict[str, Any]:
    if cls is CustomRequest:
        return {"model": "veo3.1"}
    return {"prompt": "a cat", **({"image_urls": [URL]} if cls is NanoBananaEdit else {})}


def make(cls: type[GenerationRequest], **fields: Any) -> GenerationRequest:
    return cls(**{**minimal(cls), **fields})


class Ratio(str, enum.Enum):  # noqa: UP042 - an enumeration as users of older Pythons have it
    WIDE = "16:9"


# ---- what is sent


@pytest.mark.parametrize(
    ("request_", "model", "sent"),
    [
        (NanoBanana(prompt="a cat"), "google/nano-banana", {"prompt": "a cat"}),
        (
            NanoBanana(prompt="a cat", output_format="png", image_size="21:9", image_input=[URL]),
            "google/nano-banana",
            {"prompt": "a cat", "output_format": "png", "image_size": "21:9", "image_input": [URL]},
        ),
        (
            NanoBanana(prompt="a cat", aspect_ratio="auto"),
            "google/nano-banana",
            {"prompt": "a cat", "aspect_ratio": "auto"},
        ),
        (
            NanoBananaEdit(prompt="a hat", image_urls=(URL,)),
            "google/nano-banana-edit",
            {"prompt": "a hat", "image_urls": [URL], "output_format": "png", "image_size": "1:1"},
        ),
        (
            NanoBananaEdit(prompt="a hat", image_urls=tuple(URLS[:8]), output_format="JPG", image_size="4:5"),
            "google/nano-banana-edit",
            {"prompt": "a hat", "image_urls": URLS[:8], "output_format": "jpeg", "image_size": "4:5"},
        ),
        (NanoBananaPro(prompt="a cat"), "google/nano-banana-pro", {"prompt": "a cat"}),
        (
            NanoBananaPro(
                prompt="a cat", image_input=(URL,), aspect_ratio="2:3", resolution="4K", output_format="jpeg"
            ),
            "google/nano-banana-pro",
            {
                "prompt": "a cat",
                "image_input": [URL],
                "aspect_ratio": "2:3",
                "resolution": "4k",
                "output_format": "jpg",
            },
        ),
        (Sora2(prompt="a cat runs"), "sora-2", {"prompt": "a cat runs"}),
        (
            Sora2(
                prompt="a cat runs",
                seconds="15",
                size="1280x720",
                input_reference=URL,
                watermark=False,
                private=True,
                style="Comic",
                metadata="",
                character_url="https://files.example/v.mp4",
                character_timestamps="1,3",
                character_from_task="task_1",
                character_create=True,
            ),
            "sora-2",
            {
                "prompt": "a cat runs",
                "input_reference": URL,
                "watermark": False,
                "private": True,
                "style": "comic",
                "metadata": "",
                "character_url": "https://files.example/v.mp4",
                "character_timestamps": "1,3",
                "character_from_task": "task_1",
                "character_create": True,
                "seconds": "15",
                "size": "1280x720",
            },
        ),
        (
            Sora2HD(prompt="a cat runs", seconds="25", size="1792X1024"),
            "sora-2-hd",
            {"prompt": "a cat runs", "seconds": "25", "size": "1792x1024"},
        ),
        (CustomRequest(model="veo3.1"), "veo3.1", {}),
        (
            CustomRequest(model=" Any/Name ", input={"prompt": "", "n": [1, None], "resolution": "4K"}),
            " Any/Name ",
            {"prompt": "", "n": [1, None], "resolution": "4K"},
        ),
    ],
)
def test_each_model_sends_its_own_fields(
    request_: GenerationRequest, model: str, sent: dict[str, Any]
) -> None:
    assert request_.model == model
    assert request_.input() == sent
    assert list(request_.input()) == list(sent)


def test_the_key_is_never_sent() -> None:
    assert NanoBanana(prompt="a cat", key="row-17").input() == {"prompt": "a cat"}
    assert CustomRequest(model="m", key="row-17", input={"a": 1}).input() == {"a": 1}


def test_edit_always_sends_format_size_and_images() -> None:
    assert set(make(NanoBananaEdit).input()) == {"prompt", "image_urls", "output_format", "image_size"}


@pytest.mark.parametrize(
    ("cls", "given_", "sent"),
    [
        (NanoBanana, "png", "png"),
        (NanoBanana, "PNG", "png"),
        (NanoBanana, "jpg", "jpeg"),
        (NanoBanana, "JPEG", "jpeg"),
        (NanoBananaEdit, " Jpg ", "jpeg"),
        (NanoBananaEdit, "jpeg", "jpeg"),
        (NanoBananaPro, "jpg", "jpg"),
        (NanoBananaPro, "JPEG", "jpg"),
        (NanoBananaPro, "png", "png"),
    ],
)
def test_jpeg_is_sent_in_the_model_s_spelling(cls: type[GenerationRequest], given_: str, sent: str) -> None:
    assert make(cls, output_format=given_).input()["output_format"] == sent


@pytest.mark.parametrize("given_", ["1k", "1K", "2k", "2K", "4k", " 4K "])
def test_a_resolution_goes_out_in_lower_case(given_: str) -> None:
    assert make(NanoBananaPro, resolution=given_).input()["resolution"] == given_.strip().lower()


@pytest.mark.parametrize("ratio", RATIOS)
def test_every_documented_ratio_is_accepted(ratio: str) -> None:
    assert make(NanoBanana, image_size=ratio).input()["image_size"] == ratio
    assert make(NanoBanana, aspect_ratio=ratio.upper()).input()["aspect_ratio"] == ratio
    assert make(NanoBananaEdit, image_size=ratio).input()["image_size"] == ratio
    assert make(NanoBananaPro, aspect_ratio=ratio).input()["aspect_ratio"] == ratio


def test_a_text_enumeration_goes_out_as_its_value() -> None:
    sent = make(NanoBanana, image_size=Ratio.WIDE).input()["image_size"]
    assert sent == "16:9"
    assert type(sent) is str


@pytest.mark.parametrize(
    ("cls", "seconds"),
    [(Sora2, 10), (Sora2, "15"), (Sora2HD, 10), (Sora2HD, "15"), (Sora2HD, 25), (Sora2HD, "25")],
)
def test_seconds_are_sent_as_text(cls: type[GenerationRequest], seconds: object) -> None:
    assert make(cls, seconds=seconds).input()["seconds"] == str(seconds)


@pytest.mark.parametrize(
    ("cls", "sizes"),
    [
        (Sora2, ["720x1280", "1280x720"]),
        (Sora2HD, ["720x1280", "1280x720", "1024x1792", "1792x1024"]),
    ],
)
def test_each_video_model_takes_its_sizes(cls: type[GenerationRequest], sizes: list[str]) -> None:
    assert [make(cls, size=size).input()["size"] for size in sizes] == sizes


@pytest.mark.parametrize("style", ["winter", "comic", "news", "NEWS"])
def test_documented_styles_are_accepted(style: str) -> None:
    assert make(Sora2, style=style).input()["style"] == style.lower()


@pytest.mark.parametrize("span", ["1,3", "0,1.5", "0.25,0.5", "10,20"])
def test_a_span_of_seconds_is_sent_as_it_is(span: str) -> None:
    assert make(Sora2, character_timestamps=span).input()["character_timestamps"] == span


@pytest.mark.parametrize(
    "prompt",
    [
        "\u200b",
        " \u200b\u200c\u200d ",
        "\ufeff",
        "\u2060\n",
        "\u00ad",
        "\u3164",
        "\u2800\ufe0f",
        "\x00",
        "\U000e0061",
    ],
)
@pytest.mark.parametrize("cls", TYPED)
def test_a_prompt_of_invisible_characters_only_is_refused(cls: type[Any], prompt: str) -> None:
    with pytest.raises(RequestValidationError, match="invisible characters only") as caught:
        make(cls, prompt=prompt)
    assert caught.value.field == "prompt"
    assert make(cls, prompt=f"{prompt}x").input()["prompt"] == f"{prompt}x"


def test_a_prompt_is_sent_unchanged() -> None:
    prompt = "  Ein Kätzchen 🐈\n\t“…” 猫  "
    assert all(make(cls, prompt=prompt).input()["prompt"] == prompt for cls in TYPED)


def test_only_the_pro_model_limits_the_prompt() -> None:
    assert make(NanoBananaPro, prompt="x" * 10_000).input()["prompt"] == "x" * 10_000
    with pytest.raises(RequestValidationError, match="at most 10,000 characters are allowed") as caught:
        make(NanoBananaPro, prompt="x" * 10_001)
    assert str(caught.value).startswith(f"prompt='{'x' * 99}… (10003 characters) is not valid")
    for cls in (NanoBanana, NanoBananaEdit, Sora2, Sora2HD):
        assert len(make(cls, prompt="x" * 50_000).input()["prompt"]) == 50_000


@pytest.mark.parametrize("kind", [list, tuple, iter, set, dict.fromkeys])
def test_images_come_in_any_collection(kind: Any) -> None:
    assert make(NanoBananaPro, image_input=kind([URL])).input()["image_input"] == [URL]


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/a.png",
        "HTTPS://Example.COM/a.png",
        "https://example.com:8443/a%20b.png?x=1&y=2#z",
        "https://[2001:db8::1]/a.png",
        "https://bücher.example/ü.png",
        "http://localhost/a.png",
    ],
)
def test_http_addresses_are_accepted_as_they_are(url: str) -> None:
    assert make(NanoBanana, image_input=[url]).input()["image_input"] == [url]
    assert make(Sora2, input_reference=url, character_url=url).input()["character_url"] == url


def test_extra_overrides_every_typed_field_unchecked() -> None:
    extra = {"prompt": "", "image_size": "7:1", "output_format": "webp", "new": {"deep": [1]}, "seed": None}
    request = make(NanoBanana, image_size="1:1", extra=extra)
    assert request.input() == extra
    assert make(Sora2, extra={"seconds": "8"}).input() == {"prompt": "a cat", "seconds": "8"}
    assert CustomRequest(model="m", input={"a": 1, "b": 2}, extra={"b": 3}).input() == {"a": 1, "b": 3}


def test_extra_may_set_both_size_and_ratio() -> None:
    sent = make(NanoBanana, image_size="1:1", extra={"aspect_ratio": "16:9"}).input()
    assert sent == {"prompt": "a cat", "image_size": "1:1", "aspect_ratio": "16:9"}


# ---- what is refused

BAD: list[tuple[type[GenerationRequest], str, Any, str]] = [
    *((cls, "prompt", value, NO_TEXT) for cls in TYPED for value in ("", " \n\t", None, 7, b"a cat", ["a"])),
    *((cls, "key", value, A_TEXT) for cls in EVERY for value in (1, b"k", ["k"])),
    *(
        (cls, "extra", value, A_MAPPING)
        for cls in EVERY
        for value in (None, 1, "a", [("a", 1)], {1: 2}, {"a": 1, None: 2})
    ),
    *(
        (cls, "output_format", value, f"one of png, {jpeg} is needed")
        for cls, jpeg in ((NanoBanana, "jpeg"), (NanoBananaEdit, "jpeg"), (NanoBananaPro, "jpg"))
        for value in ("webp", "", 1, True, b"png", ["png"], {"png": 1})
    ),
    (NanoBananaEdit, "output_format", None, "one of png, jpeg is needed"),
    (NanoBananaEdit, "image_size", None, A_RATIO),
    *(
        (cls, name, value, A_RATIO)
        for cls, name in (
            (NanoBanana, "image_size"),
            (NanoBanana, "aspect_ratio"),
            (NanoBananaEdit, "image_size"),
            (NanoBananaPro, "aspect_ratio"),
        )
        for value in ("16x9", "1:4", "16 : 9", "", 1.5, (16, 9))
    ),
    *((NanoBananaPro, "resolution", value, "one of 1k, 2k, 4k is needed") for value in ("8k", "1024", 4, "")),
    *((Sora2, "seconds", value, "one of 10, 15 is needed") for value in (25, "25", 8, "8", "10s", "", True)),
    *(
        (Sora2HD, "seconds", value, "one of 10, 15, 25 is needed")
        for value in (20, "20", " 10", 10.5, object, 10**5000)
    ),
    *(
        (Sora2, "size", value, "one of 720x1280, 1280x720 is needed")
        for value in ("1024x1792", "1792x1024", "1280*720", "16:9", 720)
    ),
    (Sora2HD, "size", "1920x1080", "one of 720x1280, 1280x720, 1024x1792, 1792x1024 is needed"),
    *((Sora2, "style", value, "one of winter, comic, news is needed") for value in ("anime", "", 1)),
    *(
        (cls, name, value, A_FLAG)
        for cls in (Sora2, Sora2HD)
        for name in ("watermark", "private", "character_create")
        for value in ("true", 1, 0, (True,))
    ),
    *((Sora2, "metadata", value, A_TEXT) for value in (1, {"a": 1}, b"m")),
    *((Sora2, "character_from_task", value, "the id of a finished task is needed") for value in (1, ["t"])),
    *(
        (Sora2, "character_timestamps", value, A_SPAN)
        for value in (
            "",
            "1",
            "3,1",
            "1,1",
            "1;3",
            "-1,2",
            "1,3,5",
            "a,b",
            "\u0661,\u0663",
            "1e1,2e2",
            1,
            (1, 3),
            b"1,3",
        )
    ),
    *(
        (Sora2, name, value, allowed)
        for name in ("input_reference", "character_url")
        for value, allowed in (
            ("/tmp/a.png", LOCAL),
            ("data:image/png;base64,AAAA", DATA),
            (Path("/tmp/a.png"), LOCAL),
            (7, URL_TEXT),
            (["https://a.example/"], URL_TEXT),
            ("", LOCAL),
            ("https://", NO_HOST),
        )
    ),
    *((CustomRequest, "model", value, "a model id is needed") for value in ("", "  ", None, 3, ["m"])),
    *((CustomRequest, "input", value, A_MAPPING) for value in (None, 1, "prompt", ["a"], {1: 1})),
]


def case_name(value: object) -> str | None:
    if isinstance(value, type):
        return value.__name__
    return "number" if isinstance(value, int) and value > 10**9 else None


@pytest.mark.parametrize(("cls", "name", "value", "allowed"), BAD, ids=case_name)
def test_an_undocumented_value_is_refused_with_its_field(
    cls: type[GenerationRequest], name: str, value: object, allowed: str
) -> None:
    with pytest.raises(RequestValidationError) as caught:
        make(cls, **{name: value})
    error = caught.value
    assert error.field == name
    assert error.value == value or error.value == str(value)
    assert error.allowed == allowed
    assert str(error).startswith(f"{name}=")
    assert str(error).endswith(f" is not valid: {allowed}")
    assert isinstance(error, ValueError)
    assert isinstance(error, RuxaError)


BAD_IMAGES: list[tuple[object, object, str]] = [
    # what is given, the value that the error shows, what it says
    (None, None, A_LIST),
    (URL, URL, A_LIST),
    (b"\x89PNG", b"\x89PNG", A_LIST),
    (7, 7, A_LIST),
    (URLS, tuple(URLS), "at most 8 image URLs are allowed"),
    (["/tmp/a.png"], "/tmp/a.png", LOCAL),
    ([URL, "C:\\a.png"], "C:\\a.png", LOCAL),
    (["C:/a.png"], "C:/a.png", LOCAL),
    (["~/a.png"], "~/a.png", LOCAL),
    (["a.png"], "a.png", LOCAL),
    (["./a.png"], "./a.png", LOCAL),
    (["file:///tmp/a.png"], "file:///tmp/a.png", SCHEME),
    (["//files.example/a.png"], "//files.example/a.png", LOCAL),
    (["ftp://files.example/a.png"], "ftp://files.example/a.png", SCHEME),
    (["s3://bucket/a.png"], "s3://bucket/a.png", SCHEME),
    (["javascript:alert(1)"], "javascript:alert(1)", LOCAL),
    (["data:image/png;base64,iVBOR"], "data:image/png;base64,iVBOR", DATA),
    (["DATA:image/png;base64,iVBOR"], "DATA:image/png;base64,iVBOR", DATA),
    ([bytearray(b"\x89PNG")], bytearray(b"\x89PNG"), URL_TEXT),
    ([Path("/tmp/a.png")], Path("/tmp/a.png"), LOCAL),
    ([None], None, URL_TEXT),
    ([7], 7, URL_TEXT),
    ([[URL]], [URL], URL_TEXT),
    (["http://[::1"], "http://[::1", "this is not a URL"),
    (["https:///a.png"], "https:///a.png", NO_HOST),
    (["https://files.example/a b.png"], "https://files.example/a b.png", NO_HOST),
    (["https://files.example/a\n.png"], "https://files.example/a\n.png", NO_HOST),
    (["https://files.example/\x00"], "https://files.example/\x00", NO_HOST),
]


@pytest.mark.parametrize(
    ("cls", "name"),
    [(NanoBanana, "image_input"), (NanoBananaPro, "image_input"), (NanoBananaEdit, "image_urls")],
)
@pytest.mark.parametrize(("images", "shown", "allowed"), BAD_IMAGES)
def test_urls_that_the_service_cannot_fetch_are_refused(
    cls: type[GenerationRequest], name: str, images: object, shown: object, allowed: str
) -> None:
    with pytest.raises(RequestValidationError) as caught:
        make(cls, **{name: images})
    assert (caught.value.field, caught.value.value, caught.value.allowed) == (name, shown, allowed)


def test_a_local_path_is_explained() -> None:
    with pytest.raises(RequestValidationError) as caught:
        make(NanoBananaPro, image_input=["/tmp/a.png"])
    assert str(caught.value) == (
        "image_input='/tmp/a.png' is not valid: this is neither an http(s) URL nor a local file that can be read"
    )


@pytest.mark.parametrize("kind", [str, Path, Path.read_bytes])
def test_a_local_file_is_identified_by_its_content(tmp_path: Path, kind: Any) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n")
    made = NanoBananaPro(prompt="x", image_input=[URL, kind(path)])
    digest = f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    assert made.input()["image_input"] == [URL, digest]
    assert [*local_files(made)] == [digest]
    assert json.loads(json.dumps(made.input()))["image_input"] == [URL, digest]
    assert with_links(made.input(), {digest: "https://b/c"})["image_input"] == [URL, "https://b/c"]
    for again in (copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert again == made
        assert [file.read() for file in local_files(again)] == [path.read_bytes()]
    video = Sora2(prompt="x", input_reference=kind(path))
    assert video.input()["input_reference"] == digest
    path.write_bytes(b"changed")
    (file,) = local_files(made)
    if kind is not Path.read_bytes:
        assert repr(file) == f"LocalFile({str(path)!r})"
        with pytest.raises(OSError, match="changed after the request was made"):
            file.read()


def test_a_digest_alone_is_a_file_whose_content_is_not_here() -> None:
    digest = f"sha256:{'ab' * 32}"
    (file,) = local_files(NanoBananaPro(prompt="x", image_input=[digest]))
    with pytest.raises(OSError, match="make the request of the file again"):
        file.read()


def test_editing_needs_a_picture() -> None:
    with pytest.raises(RequestValidationError, match="at least one image URL is needed"):
        make(NanoBananaEdit, image_urls=[])


def test_size_and_ratio_together_are_refused() -> None:
    with pytest.raises(RequestValidationError) as caught:
        make(NanoBanana, image_size="1:1", aspect_ratio="16:9")
    assert str(caught.value) == (
        "aspect_ratio='16:9' is not valid: image_size='1:1' means the same: give only one of them"
    )


@pytest.mark.parametrize("name", ["resolution", "seconds", "image_urls", "negative_prompt"])
def test_a_field_that_the_model_does_not_have_is_refused(name: str) -> None:
    with pytest.raises(TypeError, match=name):
        make(NanoBanana, **{name: "1k"})


def test_the_base_class_has_no_model() -> None:
    with pytest.raises(TypeError, match="GenerationRequest has no model: use one of its subclasses"):
        _ = GenerationRequest().model


def test_the_class_of_a_model_is_found_by_its_id() -> None:
    assert {request_class(str(cls.model)) for cls in TYPED} == set(TYPED)
    assert request_class("veo3.1") is None
    assert request_class("nano-banana") is None


# ---- values


@pytest.mark.parametrize("cls", EVERY)
def test_requests_are_frozen(cls: type[GenerationRequest]) -> None:
    request = make(cls, key="a")
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        request.key = "b"  # type: ignore[misc]


@pytest.mark.parametrize("cls", EVERY)
def test_equal_requests_are_equal_and_hash_alike(cls: type[GenerationRequest]) -> None:
    one, other = make(cls, key="a", extra={"x": [1]}), make(cls, key="a", extra={"x": [1]})
    assert one == other
    assert hash(one) == hash(other)
    assert len({one, other}) == 1
    assert one != make(cls, key="b", extra={"x": [1]})
    assert one != make(cls, key="a", extra={"x": [2]})


def test_the_same_fields_for_another_model_are_another_request() -> None:
    assert make(Sora2) != make(Sora2HD)
    assert CustomRequest(model="a") != CustomRequest(model="b")
    assert CustomRequest(model="a", input={"n": 1}) != CustomRequest(model="a", input={"n": 2})


@pytest.mark.parametrize("cls", EVERY)
def test_requests_can_be_pickled(cls: type[GenerationRequest]) -> None:
    request = make(cls, key="a", extra=MappingProxyType({"x": {"y": [1]}}))
    again = pickle.loads(pickle.dumps(request))
    assert again == request
    assert again.input() == request.input()


def test_later_changes_of_arguments_do_not_change_a_request() -> None:
    extra, images, given_ = {"seed": 1}, [URL], {"a": 1}
    request = make(NanoBananaPro, image_input=images, extra=extra)
    custom = CustomRequest(model="m", input=given_)
    extra["seed"] = 2
    images.clear()
    given_["a"] = 2
    assert request.input() == {"prompt": "a cat", "image_input": [URL], "seed": 1}
    assert custom.input() == {"a": 1}
    request.input()["prompt"] = "changed"
    request.input()["image_input"].clear()
    assert request.input() == {"prompt": "a cat", "image_input": [URL], "seed": 1}


def test_a_copy_with_a_change_is_checked_again() -> None:
    request = make(NanoBananaPro, resolution="2k")
    assert attrs.evolve(request, resolution="4K").input()["resolution"] == "4k"  # type: ignore[call-arg]
    with pytest.raises(RequestValidationError, match="resolution='8k' is not valid"):
        attrs.evolve(request, resolution="8k")  # type: ignore[call-arg]


# ---- anything at all

_texts = st.text(st.characters(), max_size=30)
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _texts | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_texts, inner, max_size=4),
    max_leaves=8,
)
_urls = st.builds("{}{}".format, st.sampled_from(["http://", "https://", "//", "data:", "h", ""]), _texts)


def fields() -> Iterator[tuple[type[GenerationRequest], str]]:
    for cls in EVERY:
        for attribute in attrs.fields(cls):
            yield cls, attribute.alias or attribute.name


def attempt(cls: type[GenerationRequest], **fields: Any) -> GenerationRequest | RequestValidationError:
    try:
        return make(cls, **fields)
    except RequestValidationError as error:
        return error


@relaxed
@given(where=st.sampled_from(list(fields())), value=_json | _urls | st.lists(_urls, max_size=10))
def test_any_value_is_accepted_or_refused_with_its_field(
    where: tuple[type[GenerationRequest], str], value: Any
) -> None:
    cls, name = where
    made = attempt(cls, **{name: value})
    if isinstance(made, RequestValidationError):
        assert made.field == name
        assert str(made)
        assert repr(pickle.loads(pickle.dumps(made))) == repr(made)
    else:
        assert isinstance(made.input(), dict)
        hash(made)
