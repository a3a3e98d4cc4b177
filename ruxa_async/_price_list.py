"""Prices by model and parameters: which price of a list counts for a request. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

__all__ = ("PriceList", "parse_price_key")

#: A model, and in brackets the parameters that the price is for.
_KEY = re.compile(r"([^\[\]]*[^\[\]\s])(?:\[([^\[\]]+)\])?")
#: A name or a value that can stand in a price key.
_PLAIN = re.compile(r'[^\[\],="]+')


def parse_price_key(key: str) -> tuple[str, dict[str, str]]:
    """Return the model and the parameters that *key* names, as in ``google/nano-banana-pro[resolution=4k]``.

    Several parameters are separated by commas. Raises ValueError.
    """
    match = _KEY.fullmatch(key)
    if match is None:
        raise ValueError(_wrong(key))
    parameters: dict[str, str] = {}
    for pair in match[2].split(",") if match[2] else ():
        name, _, value = (part.strip() for part in pair.partition("="))
        if name in parameters or not _PLAIN.fullmatch(name) or not _PLAIN.fullmatch(value):
            raise ValueError(_wrong(key))
        parameters[name] = value.casefold()
    return match[1], parameters


def _wrong(key: str) -> str:
    return (
        f"{key!r} is not valid: the id of a model is needed, or one with parameters, "
        "as in google/nano-banana-pro[resolution=4k]"
    )


class PriceList:
    """The prices of models and of their parameters. Raises ValueError for a key that names no price.

    Of the prices that a request matches, the one with the most parameters counts, and among those the
    highest. The key of a request is the key of that price. If it matches none, the key is its model with the
    parameters that other prices of the model name, so that requests of one key may be expected to cost the
    same.
    """

    def __init__(self, prices: Mapping[str, float]) -> None:
        self._listed: dict[str, list[tuple[str, frozenset[tuple[str, str]]]]] = {}
        for key in sorted(prices, key=lambda key: prices[key], reverse=True):
            model, parameters = parse_price_key(key)
            self._listed.setdefault(model, []).append((key, frozenset(parameters.items())))
        self._names: dict[str, list[str]] = {}
        for model, listed in self._listed.items():
            listed.sort(key=lambda item: -len(item[1]))
            if names := sorted({name for _, parameters in listed for name, _ in parameters}):
                self._names[model] = names

    def has_parameters(self, model: str) -> bool:
        """Tell whether a price of *model* names a parameter, so that the input of a request matters."""
        return model in self._names

    def key_of(self, model: str, given: Mapping[str, Any]) -> str:
        """Return the key of a request for *model* with the input *given*."""
        if model not in self._names:
            return model
        held = {name: text for name in self._names[model] if (text := _text(given.get(name)))}
        for key, parameters in self._listed[model]:
            if held.items() >= parameters:
                return key
        pairs = ",".join(
            f"{name}={text if _PLAIN.fullmatch(text) else json.dumps(text)}" for name, text in held.items()
        )
        return f"{model}[{pairs}]" if pairs else model


def _text(value: object) -> str:
    """Return *value* as a price key writes it, an empty text if no key can name it.

    Letter case does not matter, nor whether a number is sent as text: the service may read both alike.
    """
    if isinstance(value, bool):
        return str(value).casefold()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, (int, float)) and abs(value) < 1e15:
        return str(value)
    return value.strip().casefold() if isinstance(value, str) else ""
