"""`python -m uvlm.pages.viewer.vendor`: fetch the viewer from npm into this package.

Only maintainers run this, to take another version: needs npm and its registry. npm checks what it
downloads against the integrity below; nothing that a package brings is executed.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from uvlm.errors import SetupError, UvlmError
from uvlm.files import write_bytes_atomic, write_json_atomic, write_text_atomic
from uvlm.pages.viewer.bundle import LICENCES, RECORD, SCRIPT

PACKAGE: Final = "@niivue/niivue"
VERSION: Final = "0.69.0"
INTEGRITY: Final = (
    "sha512-YMjQvJgD1W2b7DuoxkwlC4VxbrgIePRJ5qyQzXKx"
    "i2v2MBVg285P/CIQyg46oDDGDIcaNlbd+MhtO/edMbXJkA=="
)
# NiiVue's npm package has no licence file, only the name of its licence; this is its repository's.
_BSD_2_CLAUSE: Final = "BSD-2-Clause.txt"
_NPM: Final = ("npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--omit=optional")


def vendor(folder: Path) -> dict[str, Any]:
    """Write script, licences and record of the viewer into `folder`; returns the record.

    Raises:
        SetupError: npm is missing or fails, or what it brings is not the pinned build.
    """
    with tempfile.TemporaryDirectory() as temporary:
        modules = _install(Path(temporary))
        lock = json.loads((modules.parent / "package-lock.json").read_text(encoding="utf-8"))
        packages = [*_packages(modules, lock["packages"], folder)]
        payload = (modules / PACKAGE / "dist" / SCRIPT).read_bytes()
    (own,) = (package for package in packages if package["name"] == PACKAGE)
    if own["integrity"] != INTEGRITY:
        raise SetupError(PACKAGE, f"has integrity {own['integrity']}", f"expected is {INTEGRITY}")
    record = own | {
        "sha256": hashlib.sha256(payload).hexdigest(),
        "bytes": len(payload),
        "contains": [_told(package) for package in packages if package is not own],
    }
    del record["text"]
    write_bytes_atomic(folder / SCRIPT, payload)
    write_text_atomic(folder / LICENCES, _licences(packages))
    write_json_atomic(folder / RECORD, record)
    return record


def _install(folder: Path) -> Path:
    """Let npm install the viewer and all that it is built of; returns node_modules."""
    command = [*_NPM, "--prefix", str(folder), f"{PACKAGE}@{VERSION}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise SetupError("npm", f"cannot be started ({error})", "install Node.js") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise SetupError("npm", f"failed: {last}", "check the network")
    return folder / "node_modules"


def _packages(modules: Path, lock: dict[str, Any], folder: Path) -> Iterator[dict[str, str]]:
    """List what was installed, with licence and its text, in the order of the names."""
    for key, entry in sorted(lock.items()):
        place = modules.parent / key
        if not key or not place.is_dir():  # the project itself; optional parts for a platform
            continue
        name = key.removeprefix("node_modules/")
        texts = [*sorted(place.glob("LICEN[CS]E*"))]
        text = texts[0] if texts else folder / _BSD_2_CLAUSE if name == PACKAGE else None
        yield {
            "name": name,
            "version": str(entry["version"]),
            "licence": str(entry["license"]),
            "integrity": str(entry["integrity"]),
            "text": text.read_text(encoding="utf-8").strip() if text else "",
        }


def _told(package: dict[str, str]) -> str:
    return f"{package['name']} {package['version']} ({package['licence']})"


def _licences(packages: list[dict[str, str]]) -> str:
    """Join the licences, the viewer's own first."""
    ordered = sorted(packages, key=lambda package: package["name"] != PACKAGE)
    none = "Its package has no licence text; its licence is named above."
    parts = (f"{_told(package)}\n\n{package['text'] or none}\n" for package in ordered)
    return f"\n{'=' * 80}\n\n".join(parts)


def main() -> int:
    """Vendor the viewer into this package."""
    try:
        record = vendor(Path(__file__).parent)
    except UvlmError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    sys.stdout.write(f"{_told(record)}, {record['bytes']:,} bytes, sha256 {record['sha256']}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
