"""`make client-types`: TypeScript types of the API, from the OpenAPI document of a running service; then the
example is checked against them, and run.

Needs Node.js 20 or newer, and npm's registry for openapi-typescript and tsc.
"""

import argparse
import os
import subprocess
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.request import urlopen

from launch.service import ServiceProcess

HERE = Path(__file__).parent
TYPES = HERE / "eglr.d.ts"
GENERATOR, COMPILER = "openapi-typescript@7.13.0", "typescript@5.9.3"


def header(document: bytes) -> str:
    """The first line of the types, by which a test knows that they are those of the document."""
    return f"// Made by `make client-types` of the OpenAPI document {sha256(document).hexdigest()}.\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--bundle", type=Path, required=True, help="any; the example asks for its items")
    bundle = parser.parse_args().bundle
    with TemporaryDirectory() as folder, ServiceProcess(bundle, "--drain-s", "0") as service:
        document = urlopen(f"{service.url}/openapi.json").read()
        (Path(folder) / "openapi.json").write_bytes(document)
        made = Path(folder) / "eglr.d.ts"
        # What has a default may be left out.
        options = ("--default-non-nullable", "false", "--output", str(made))
        npx(GENERATOR, "openapi-typescript", f"{folder}/openapi.json", *options)
        TYPES.write_text(header(document) + made.read_text())
        npx(
            COMPILER,
            "tsc",
            *("--strict", "--target", "es2022", "--module", "nodenext", "--lib", "es2022,dom"),
            *("--outDir", folder, str(HERE / "rerank.mts")),
        )
        subprocess.run(["node", f"{folder}/rerank.mjs", service.url], check=True)


def npx(package: str, *command: str) -> None:
    quiet = {"npm_config_update_notifier": "false", "npm_config_fund": "false"}
    subprocess.run(
        ["npx", "--yes", "--package", package, "--", *command], check=True, env={**os.environ, **quiet}
    )


if __name__ == "__main__":
    main()
