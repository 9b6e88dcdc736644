"""docs/reference/settings.md: every setting of the service, from `service/settings.py`."""

from pathlib import Path

from pydantic_core import PydanticUndefined

from reference.markdown import kind, table
from service.settings import ENV_PREFIX, Settings

HEAD = f"""# Settings

Made from `service/settings.py` by `python -m reference`. Each setting is an environment variable, and an
option of `python -m service` that takes precedence: `{ENV_PREFIX}MAX_QUEUE=64`, or `--max-queue 64`. A list
is written with commas. All are checked at the start; one that is wrong is named, with exit code 2.
[Serving](../serving.md) and [deployment](../deployment.md) say how they work together.

"""


def page() -> str:
    kinds = Settings.model_json_schema()["properties"]
    rows = []
    for name, field in Settings.model_fields.items():
        asked = kind(kinds[name]).removesuffix(" or null")
        rows.append(
            [f"`{ENV_PREFIX}{name.upper()}`", asked, _default(field.default), field.description or ""]
        )
    return f"{HEAD}{table(['variable', 'value', 'default', 'what it is'], rows)}\n"


def _default(value: object) -> str:
    if value is PydanticUndefined:
        return "required"
    if value is None or value in ("", ()):
        return "none"
    if isinstance(value, bool):
        return f"`{value}`".lower()
    if isinstance(value, int | float):
        return f"`{value:.0f}`" if float(value).is_integer() else f"`{value}`"
    return f"`{value.as_posix() if isinstance(value, Path) else value}`"
