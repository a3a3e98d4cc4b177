"""The example of README.md, for type checkers and ruff; tests/test_readme.py keeps the two equal."""

from pathlib import Path

import anyio

from ruxa_async import NanoBanana, RuxaClient, Succeeded

lines = Path("prompts.txt").read_text(encoding="utf-8").splitlines()
prompts = [line.strip() for line in lines if line.strip()]


async def main() -> None:
    requests = (NanoBanana(prompt=prompt) for prompt in prompts)
    async with RuxaClient() as ruxa, ruxa.as_completed(requests) as outcomes:
        async for outcome in outcomes:
            if isinstance(outcome, Succeeded):
                print(*await outcome.generation.save("out"))
            else:
                print(f"{prompts[outcome.index]}: {outcome.error}")


anyio.run(main)
