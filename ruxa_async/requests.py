"""Requests: one frozen class per model, checked against the service's documentation before anything is sent.

Every class takes *key*, your own name for the job, and *extra*, input fields that are sent unchecked and
override typed fields. Use *extra* for fields or values that this version does not know. Fields left at None
are not sent, so the service's default applies. Invalid fields raise `RequestValidationError`.

A field that takes URLs of pictures or videos also takes local files, as paths or bytes, for a client with an
uploader (see `LocalFile`).
"""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Final, Self, TypeAlias, TypeVar
from urllib.parse import urlsplit

import attrs
from attrs import Attribute, field, frozen

from .errors import RequestValidationError

__all__ = (
    "CustomRequest",
    "GenerationRequest",
    "LocalFile",
    "NanoBanana",
    "NanoBananaEdit",
    "NanoBananaPro",
    "Sora2",
    "Sora2HD",
    "request_class",
)

_RATIOS = ("1:1", "9:16", "16:9", "3:4", "4:3", "3:2", "2:3", "5:4", "4:5", "21:9", "auto")
#: Limits of the service: image URLs of one request, and characters of a prompt for google/nano-banana-pro.
_MAX_IMAGES = 8
_PRO_PROMPT = 10_000
_UPLOAD_FIRST = (
    "the service takes http(s) URLs only: upload the file to a place where the service can download it"
)
_NO_FILE = "this is neither an http(s) URL nor a local file that can be read"
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_TIMESTAMPS = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*,\s*([0-9]+(?:\.[0-9]+)?)\s*")

#: Unicode categories of invisible characters: controls, format characters such as zero-width ones,
#: separators.
_INVISIBLE = frozenset({"Cc", "Cf", "Zl", "Zp", "Zs"})
#: Fillers, joiners and variation selectors, which are invisible too.
_FILLERS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0") | {
    *map(chr, range(0xFE00, 0xFE10)),
    *map(chr, range(0xE0100, 0xE01F0)),
}

_T = TypeVar("_T")
_Validator = Callable[[object, "Attribute[_T]", _T], None]


# ---- local files


class LocalFile(str):
    """A local file in place of a URL, uploaded by the client's uploader before the request is sent.

    *source* is its path or its content. It is read now, and again when it is uploaded. Its text is
    ``sha256:`` and the digest of its content, by which the journal recognises it and results name it.

    Fields that take URLs make it of paths and bytes; put it into `CustomRequest` or *extra* yourself. Raises
    OSError if the file cannot be read.
    """

    __slots__ = ("source",)
    source: Path | bytes | None

    def __new__(cls, source: str | os.PathLike[str] | bytes) -> Self:
        """Return the file at or with *source*."""
        if isinstance(source, bytes):
            return cls._of(f"sha256:{hashlib.sha256(source).hexdigest()}", source)
        path = Path(source)
        with path.open("rb") as file:
            return cls._of(f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}", path)

    @classmethod
    def _of(cls, text: str, source: Path | bytes | None) -> Self:
        made = super().__new__(cls, text)
        made.source = source
        return made

    def read(self) -> bytes:
        """Return the content. Raises OSError if it is not what it was, or not here."""
        if self.source is None:
            raise OSError("only its digest is known here: make the request of the file again")
        content = self.source if isinstance(self.source, bytes) else self.source.read_bytes()
        if f"sha256:{hashlib.sha256(content).hexdigest()}" != self:
            raise OSError("it was changed after the request was made")
        return content

    def __repr__(self) -> str:
        if isinstance(self.source, Path):
            return f"LocalFile({str(self.source)!r})"
        return f"LocalFile(<{'unknown' if self.source is None else len(self.source)} bytes, {self[:19]}...>)"

    def __reduce__(self) -> tuple[Any, ...]:
        return LocalFile._of, (str.__str__(self), self.source)


#: What a field for a URL takes.
URLOrFile: TypeAlias = str | os.PathLike[str] | bytes


def is_path(text: str) -> bool:
    """Tell whether *text* may be the path of a local file, rather than a URL."""
    return bool(text.strip()) and "://" not in text and not text.lower().startswith(("data:", "sha256:"))


def local_files(request: GenerationRequest) -> Iterator[LocalFile]:
    """Yield each local file in the input of *request*: values of fields, and elements of lists."""
    for value in request.input().values():
        for each in value if isinstance(value, (list, tuple)) else (value,):
            if isinstance(each, LocalFile):
                yield each


def with_links(given: dict[str, Any], links: Mapping[str, str]) -> dict[str, Any]:
    """Return the input *given* with the URLs *links* in place of local files."""

    def linked(value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return [linked(each) for each in value]
        return links[value] if isinstance(value, LocalFile) else value

    return {name: linked(value) for name, value in given.items()}


def _as_file(value: Any) -> Any:
    """Return a path or bytes as `LocalFile`, any other value and a file that cannot be read unchanged."""
    if isinstance(value, str):
        if isinstance(value, LocalFile):
            return value
        if _DIGEST.fullmatch(value):
            return LocalFile._of(value, None)  # noqa: SLF001 - ours
        if not is_path(value):
            return value
    if isinstance(value, (str, os.PathLike, bytes)):
        try:
            return LocalFile(value)
        except (OSError, ValueError):  # ValueError: a NUL in a path
            return value
    return value


# ---- validators and converters

# Required and converted fields are declared by a plain `field(...)`, which is all that type checkers
# understand. Their validators take an `Attribute` of the field's own type: with `Attribute[Any]`, ty 0.0.108
# ignores converter and alias.


@frozen
class FieldRule:
    """The validator of a field, which also describes the valid values.

    *problem* returns the message of the `RequestValidationError` for an invalid value, None for a valid one.
    *described* says in words which values are valid, unless *allowed* lists them.
    """

    problem: Callable[[Any], str | None]
    described: str = ""
    allowed: tuple[str, ...] = ()

    def __call__(self, _instance: object, attribute: Attribute[Any], value: object) -> None:
        """Raise `RequestValidationError` if *value* is invalid."""
        if (message := self.problem(value)) is not None:
            raise RequestValidationError(attribute.alias or attribute.name, value, message)


def _prompt(limit: int | None = None) -> _Validator[str]:
    """Return a validator for a prompt of at most *limit* characters."""

    def problem(value: object) -> str | None:
        if not isinstance(value, str) or not value.strip():
            return "a text that is not empty is needed"
        if all(char in _FILLERS or unicodedata.category(char) in _INVISIBLE for char in value):
            return "it holds invisible characters only, and a text that can be read is needed"
        if limit is not None and len(value) > limit:
            return f"at most {limit:,} characters are allowed"
        return None

    return FieldRule(problem, "not empty" if limit is None else f"not empty, at most {limit:,} characters")


def _one_of(*allowed: str, optional: bool = True) -> _Validator[str | None]:
    """Return a validator for one of *allowed*; None is valid too if *optional*."""
    message = f"one of {', '.join(allowed)} is needed"
    return FieldRule(
        lambda value: None if value in allowed or (optional and value is None) else message, allowed=allowed
    )


def _choice(allowed: tuple[str, ...], default: str | None = None, **aliases: str) -> Any:
    """Declare a field for one of *allowed*, in any case; *aliases* maps other spellings to allowed ones."""

    def convert(value: object) -> object:
        if not isinstance(value, str):
            return value
        text = value.strip().lower()
        return aliases.get(text, text)

    return field(default=default, converter=convert, validator=_one_of(*allowed, optional=default is None))


def _number_text(value: str | int | None) -> str | None:
    """Return an int from 0 to 999 as the text that the service expects, any other value unchanged."""
    return str(value) if type(value) is int and 0 <= value < 1000 else value  # type: ignore[return-value]


def _url_problem(value: object) -> str | None:
    """Return why *value* is neither an http(s) URL nor a local file, None if it is one."""
    if isinstance(value, LocalFile):
        return None
    if isinstance(value, os.PathLike):
        return _NO_FILE
    if not isinstance(value, str):
        return "an http(s) URL as text, or a local file as path or bytes, is needed"
    if value[:5].lower() == "data:":
        return f"a data: URI cannot be sent; {_UPLOAD_FIRST}"
    return _remote_problem(value) if "://" in value else _NO_FILE


def _remote_problem(value: str) -> str | None:
    try:
        parts = urlsplit(value)
        host = parts.hostname
    except ValueError:
        return "this is not a URL"
    if parts.scheme.lower() not in ("http", "https"):
        return f"another scheme cannot be sent; {_UPLOAD_FIRST}"
    if not host or re.search(r"[\s\x00-\x1f\x7f]", value):
        return "a URL needs a host and holds no spaces or control characters"
    return None


def _as_optional_file(value: URLOrFile | None) -> str | None:
    """Return a local file as `LocalFile`; the validator rejects other values."""
    return _as_file(value)  # type: ignore[no-any-return]


_check_url: _Validator[str | None] = FieldRule(
    lambda value: None if value is None else _url_problem(value), "an http(s) URL or a local file"
)


def _as_tuple(value: Iterable[URLOrFile]) -> tuple[str, ...]:
    """Return any iterable as a tuple, its paths and bytes as `LocalFile`; the validator rejects others."""
    given: object = value
    if isinstance(given, Iterable) and not isinstance(given, (str, bytes)):
        return tuple(map(_as_file, given))
    return given  # type: ignore[return-value]


def _images_problem(value: object, *, least: int) -> str | None:
    """Return why the number or the type of the images is invalid, None if both are valid."""
    if not isinstance(value, tuple):
        return "a list of http(s) URLs is needed"
    if len(value) > _MAX_IMAGES:
        return f"at most {_MAX_IMAGES} image URLs are allowed"
    return "at least one image URL is needed" if len(value) < least else None


class _ImagesRule(FieldRule):
    """The rule of a list of image URLs: the error for one of them shows that one."""

    def __call__(self, instance: object, attribute: Attribute[Any], value: object) -> None:
        """Raise `RequestValidationError` if *value* is invalid."""
        super().__call__(instance, attribute, value)
        assert isinstance(value, tuple)
        for url in value:
            if (message := _url_problem(url)) is not None:
                raise RequestValidationError(attribute.name, url, message)


def _images(least: int = 0) -> _Validator[tuple[str, ...]]:
    """Return a validator for at least *least* and at most eight image URLs."""
    count = f"{least} to {_MAX_IMAGES}" if least else f"up to {_MAX_IMAGES}"
    return _ImagesRule(partial(_images_problem, least=least), f"{count} http(s) URLs or local files")


def _timestamps_problem(value: object) -> str | None:
    if value is None:
        return None
    match = _TIMESTAMPS.fullmatch(value) if isinstance(value, str) else None
    if match is None or float(match[1]) >= float(match[2]):
        return 'two seconds as "start,end" are needed, as in "1,3"'
    return None


def _of_type(kind: type[_T], described: str) -> _Validator[_T | None]:
    """Return a validator for None or an instance of *kind*, which an error message calls *described*."""
    return FieldRule(
        lambda value: None if value is None or isinstance(value, kind) else f"{described} is needed",
        described,
    )


def _copied(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """Copy a mapping, so that later changes to it do not change the request."""
    given: object = value
    return dict(given) if isinstance(given, Mapping) else value


def _mapping_problem(value: object) -> str | None:
    is_valid = isinstance(value, dict) and all(isinstance(name, str) for name in value)
    return None if is_valid else "a mapping with text keys is needed"


def _model_problem(value: object) -> str | None:
    return None if isinstance(value, str) and value.strip() else "a model id is needed"


_check_mapping: _Validator[Mapping[str, Any]] = FieldRule(_mapping_problem)


# ---- requests


@frozen(kw_only=True)
class GenerationRequest:
    """The base class of all requests. Use a subclass, or `CustomRequest` for a model without one.

    *key* is your own name for the job, unique within a run. *extra* is merged into the input unchecked.
    """

    key: str | None = field(default=None, validator=_of_type(str, "a text"))
    extra: Mapping[str, Any] = field(factory=dict, converter=_copied, validator=_check_mapping, hash=False)

    @property
    def model(self) -> str:
        """The id of the model at the service."""
        raise TypeError(f"{type(self).__name__} has no model: use one of its subclasses")

    def input(self) -> dict[str, Any]:
        """Return the ``input`` object that is sent."""
        typed: dict[str, Any] = {
            name: list(value) if isinstance(value, tuple) else value
            for name in input_fields(type(self))
            if (value := getattr(self, name)) is not None and value != ()
        }
        typed.update(self.extra)
        return typed


_FIELDS: dict[type, tuple[str, ...]] = {}


def input_fields(cls: type[Any]) -> tuple[str, ...]:
    """Return the names of the input fields of *cls*, in the order of their declaration."""
    names = _FIELDS.get(cls)
    if names is None:
        fields = (each.name for each in attrs.fields(cls))
        names = _FIELDS[cls] = tuple(name for name in fields if name not in ("key", "extra", "model"))
    return names


@frozen(kw_only=True)
class NanoBanana(GenerationRequest):
    """Generate a picture from a text with ``google/nano-banana``.

    *image_size* is an aspect ratio, *output_format* png or jpeg. *aspect_ratio* and *image_input* appear in
    the service's sample, but not in its list of fields. Give either *image_size* or *aspect_ratio*, not both.
    """

    model: ClassVar[str] = "google/nano-banana"
    prompt: str = field(validator=_prompt())
    output_format: str | None = _choice(("png", "jpeg"), jpg="jpeg")
    image_size: str | None = _choice(_RATIOS)
    aspect_ratio: str | None = _choice(_RATIOS)
    image_input: tuple[str, ...] = field(default=(), converter=_as_tuple, validator=_images())

    def __attrs_post_init__(self) -> None:
        if self.image_size is not None and self.aspect_ratio is not None:
            raise RequestValidationError(
                "aspect_ratio",
                self.aspect_ratio,
                f"image_size={self.image_size!r} means the same: give only one of them",
            )


@frozen(kw_only=True)
class NanoBananaEdit(GenerationRequest):
    """Edit pictures by a text with ``google/nano-banana-edit``.

    *image_urls* are one to eight http(s) URLs. The service requires *output_format* (png or jpeg, default
    png) and *image_size* (an aspect ratio, default 1:1), so both are always sent.
    """

    model: ClassVar[str] = "google/nano-banana-edit"
    prompt: str = field(validator=_prompt())
    image_urls: tuple[str, ...] = field(converter=_as_tuple, validator=_images(1))
    output_format: str = _choice(("png", "jpeg"), "png", jpg="jpeg")
    image_size: str = _choice(_RATIOS, "1:1")


@frozen(kw_only=True)
class NanoBananaPro(GenerationRequest):
    """Generate a picture from a text of at most 10,000 characters with ``google/nano-banana-pro``.

    *resolution* is 1k, 2k or 4k, *output_format* png or jpg, *image_input* up to eight URLs of pictures.
    """

    model: ClassVar[str] = "google/nano-banana-pro"
    prompt: str = field(validator=_prompt(_PRO_PROMPT))
    image_input: tuple[str, ...] = field(default=(), converter=_as_tuple, validator=_images())
    aspect_ratio: str | None = _choice(_RATIOS)
    resolution: str | None = _choice(("1k", "2k", "4k"))
    output_format: str | None = _choice(("png", "jpg"), jpeg="jpg")


@frozen(kw_only=True)
class _Sora(GenerationRequest):
    """The fields of both video models."""

    prompt: str = field(validator=_prompt())
    input_reference: str | None = field(default=None, converter=_as_optional_file, validator=_check_url)
    watermark: bool | None = field(default=None, validator=_of_type(bool, "True or False"))
    private: bool | None = field(default=None, validator=_of_type(bool, "True or False"))
    style: str | None = _choice(("winter", "comic", "news"))
    metadata: str | None = field(default=None, validator=_of_type(str, "a text"))
    character_url: str | None = field(default=None, converter=_as_optional_file, validator=_check_url)
    character_timestamps: str | None = field(
        default=None, validator=FieldRule(_timestamps_problem, 'seconds as "start,end"')
    )
    character_from_task: str | None = field(
        default=None, validator=_of_type(str, "the id of a finished task")
    )
    character_create: bool | None = field(default=None, validator=_of_type(bool, "True or False"))


@frozen(kw_only=True)
class Sora2(_Sora):
    """Generate a video with ``sora-2``: *seconds* 10 or 15, *size* 720x1280 or 1280x720.

    *character_timestamps* is the span of *character_url* to learn from, in seconds as ``"start,end"``.
    """

    model: ClassVar[str] = "sora-2"
    seconds: str | None = field(default=None, converter=_number_text, validator=_one_of("10", "15"))
    size: str | None = _choice(("720x1280", "1280x720"))


@frozen(kw_only=True)
class Sora2HD(_Sora):
    """Generate a video with ``sora-2-hd``: *seconds* 10, 15 or 25; *size* also 1024x1792 or 1792x1024."""

    model: ClassVar[str] = "sora-2-hd"
    seconds: str | None = field(default=None, converter=_number_text, validator=_one_of("10", "15", "25"))
    size: str | None = _choice(("720x1280", "1280x720", "1024x1792", "1792x1024"))


@frozen(kw_only=True)
class CustomRequest(GenerationRequest):
    """A request for any *model*. *input* is sent unchecked."""

    model: str = field(validator=FieldRule(_model_problem))
    input_fields: Mapping[str, Any] = field(
        factory=dict, alias="input", converter=_copied, validator=_check_mapping, hash=False
    )

    def input(self) -> dict[str, Any]:
        """Return the ``input`` object that is sent."""
        return {**self.input_fields, **self.extra}


#: The request class of each model.
MODELS: dict[str, type[GenerationRequest]] = {
    cls.model: cls for cls in (NanoBanana, NanoBananaEdit, NanoBananaPro, Sora2, Sora2HD)
}


def request_class(model: str) -> type[GenerationRequest] | None:
    """Return the request class of *model*, None without one; then use `CustomRequest`."""
    return MODELS.get(model)
