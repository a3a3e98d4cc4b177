"""The client for code without async: scripts, threads, notebooks, web frameworks and task queues.

Its names and its rules for money are those of `ruxa_async.RuxaClient`, which it runs in a thread of its own::

    from ruxa_async import NanoBanana
    from ruxa_async.sync import RuxaClient

    with RuxaClient() as ruxa:
        picture = ruxa.generate(NanoBanana(prompt="a cat on a windowsill"))
        ruxa.save(picture, "out")
"""

from __future__ import annotations

from ._client import RuxaClient as RuxaClient
from ._completions import Completions as Completions
from ._task import GenerationTask as GenerationTask

__all__ = ("Completions", "GenerationTask", "RuxaClient")
