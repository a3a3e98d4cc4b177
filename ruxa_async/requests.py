"""Requests: one frozen class per model, checked against the service's documentation before anything is sent.

Every class takes *key*, your own name for the job, and *extra*, input fields that are sent unchecked and
override typed fields. Use *extra* for fields or values that this version does not know. Fields left at None
are not sent, so the service's default applies. Invalid fields raise `RequestValidationError`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, ClassVar, TypeVar
from urllib.parse import urlsplit

import attrs
from attrs import Attribute, field, frozen

from .errors import RequestValidationError

__all__ = (
    "CustomRequest",
    "GenerationRequest",
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
    """Return why *value* is not an http(s) URL, None if it is one."""
    if not isinstance(value, str):
        return "an http(s) URL as text is needed"
    if value[:5].lower() == "data:":
        return f"a data: URI cannot be sent; {_UPLOAD_FIRST}"
    try:
        parts = urlsplit(value)
        host = parts.hostname
    except ValueError:
        return "this is not a URL"
    if parts.scheme.lower() not in ("http", "https"):
        return f"a local path or another scheme cannot be sent; {_UPLOAD_FIRST}"
    if not host or re.search(r"[\s\x00-\x1f\x7f]", value):
        return "a URL needs a host and holds no spaces or control characters"
    return None


def _url() -> Any:
    """Declare a field for an optional http(s) URL."""
    return field(
        default=None,
        validator=FieldRule(lambda value: None if value is None else _url_problem(value), "an http(s) URL"),
    )


def _as_tuple(value: Iterable[str]) -> tuple[str, ...]:
    """Return any iterable as a tuple; the validator rejects other values."""
    given: object = value
    if isinstance(given, Iterable) and not isinstance(given, (str, bytes)):
        return tuple(given)
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
    return _ImagesRule(partial(_images_problem, least=least), f"{count} http(s) URLs")


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
    input_reference: str | None = _url()
    watermark: bool | None = field(default=None, validator=_of_type(bool, "True or False"))
    private: bool | None = field(default=None, validator=_of_type(bool, "True or False"))
    style: str | None = _choice(("winter", "comic", "news"))
    metadata: str | None = field(default=None, validator=_of_type(str, "a text"))
    character_url: str | None = _url()
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
