"""The example of README.md, for type checkers and ruff; tests/test_readme.py keeps the two equal."""

from pathlib import Path

import anyio

from ruxa_async import Failed, NanoBanana, RuxaClient, Succeeded


async def main() -> None:
    lines = Path("prompts.txt").read_text(encoding="utf-8").splitlines()
    prompts = [line.strip() for line in lines if line.strip()]
    async with (
        RuxaClient() as ruxa,  # RUXA_API_KEY, RUXA_BASE_URL
        ruxa.as_completed(NanoBanana(prompt=prompt) for prompt in prompts) as outcomes,
    ):
        async for outcome in outcomes:  # as they finish; errors are values
            match outcome:
                case Succeeded(generation=picture):
                    print(*await picture.save("out"))
                case Failed(index=index, error=error):
                    print(f"{prompts[index]}: {error}")


anyio.run(main)
