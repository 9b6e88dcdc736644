"""`python -m reference`: write docs/reference anew."""

from pathlib import Path

from reference import api, metrics, settings

ROOT = Path(__file__).parents[1]


def pages() -> dict[str, str]:
    """Every page's text, by its path from the root."""
    made = {"settings": settings.page(), "metrics": metrics.page(), "api": api.page()}
    return {f"docs/reference/{name}.md": text for name, text in made.items()}


def main() -> None:
    for path, text in pages().items():
        (ROOT / path).parent.mkdir(exist_ok=True)
        (ROOT / path).write_text(text)
        print(path)


if __name__ == "__main__":
    main()
