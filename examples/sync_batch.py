"""Many pictures without async: python examples/sync_batch.py. RuxaClient() takes your key and service."""

from ruxa_async import NanoBanana, Succeeded
from ruxa_async.emulator import Emulator, EmulatorSettings
from ruxa_async.sync import RuxaClient

requests = [NanoBanana(prompt=f"a heron, study {n}", key=f"heron-{n}") for n in range(1, 9)]
with (
    Emulator(EmulatorSettings(speed=20)) as emulator,
    RuxaClient(api_key=emulator.key, base_url=emulator.url) as ruxa,
):
    for outcome in ruxa.as_completed(requests):
        saved = ruxa.save(outcome.generation, "out") if isinstance(outcome, Succeeded) else [outcome.error]
        print(outcome.key, *saved)
