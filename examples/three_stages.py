"""A sketch, a painting of it and a film of the painting: python examples/three_stages.py.

Stop it at any time and start it again: nothing is bought twice. The emulator costs nothing; without it,
``RuxaClient(journal=SqliteJournal("catalogue/journal.sqlite"))`` takes your key and service.
"""

import anyio

from ruxa_async import Failed, NanoBanana, NanoBananaPro, RuxaClient, Sora2, SqliteJournal, Succeeded
from ruxa_async.emulator import Emulator, EmulatorSettings

subjects = ("a heron in reeds", "a night market", "a fox on old atlases", "three quinces")


def paint(sketch: Succeeded) -> NanoBananaPro:
    return NanoBananaPro(prompt="the same picture, in oils", image_input=sketch.generation.urls)


def film(painting: Succeeded) -> Sora2:
    return Sora2(prompt="a breeze moves it", input_reference=painting.generation.urls[0])


async def main() -> None:
    sketches = (NanoBanana(prompt=f"a sketch of {each}", key=each) for each in subjects)
    journal = SqliteJournal("catalogue/journal.sqlite", service="emulator")
    async with (
        Emulator(EmulatorSettings(speed=50), ledger="catalogue/emulator.jsonl") as emulator,
        RuxaClient(api_key=emulator.key, base_url=emulator.url, journal=journal) as ruxa,
        ruxa.as_completed(sketches, resume="catalogue").then(paint).then(film, name="film") as films,
    ):
        async for outcome in films:
            match outcome:
                case Succeeded(key=key, generation=made):
                    print(key, *await made.save("catalogue"))
                case Failed(key=key, stage=stage, error=error):
                    print(f"{key} failed in stage {stage}: {error}")


anyio.run(main)
