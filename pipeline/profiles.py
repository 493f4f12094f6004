"""Profiles: Hydra composes conf/ into one flat params.yaml, which is all that the stages read.

`dvc exp run` composes by itself; `dvc repro` does not, so `uvlm use` and `uvlm params` do it here.
"""

from __future__ import annotations

import copy
import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from uvlm.config import Params, parse_params
from uvlm.errors import ConfigError
from uvlm.files import write_text_atomic

HEADER = (
    "# Composed from conf/ by `uvlm use PROFILE` or `uvlm params`. Edit conf/, or change a number\n"
    "# for one run with `dvc exp run -S section.key=value`.\n"
)
_DEFAULT = re.compile(r"^(\s*-\s*profile:\s*)(\S+)\s*$", re.MULTILINE)


def profile_names(root: Path) -> list[str]:
    """List the profiles of conf/profile/."""
    return sorted(path.stem for path in (root / "conf" / "profile").glob("*.yaml"))


def check_profile(root: Path, profile: str) -> None:
    """Refuse a profile that conf/profile/ does not have."""
    if not (names := profile_names(root)):
        raise ConfigError(root / "conf/profile", "no profiles", "run this in the project's folder")
    if profile not in names:
        raise ConfigError(f"profile {profile}", "no such profile", f"choose {', '.join(names)}")


def default_profile(root: Path) -> str:
    """Read which profile conf/config.yaml names."""
    return _default_line(root).group(2)


def compose(root: Path, profile: str | None = None) -> dict[Any, Any]:
    """Compose and validate a profile (default: the one of conf/config.yaml).

    Raises:
        ConfigError: no such profile, or a key of conf/ is unknown or wrong.
    """
    import hydra
    from omegaconf import OmegaConf

    profile = profile or default_profile(root)
    check_profile(root, profile)
    with hydra.initialize_config_dir(str((root / "conf").resolve()), version_base="1.3"):
        config = hydra.compose("config", overrides=[f"profile={profile}"])
    document: Any = OmegaConf.to_container(config, resolve=True)
    parse_params(document, f"conf/profile/{profile}.yaml")
    return dict(document)


def use_profile(root: Path, profile: str) -> Params:
    """Compose `profile` into params.yaml and make it the default of conf/config.yaml."""
    document = compose(root, profile)
    line = _default_line(root)
    text = line.string[: line.start(2)] + profile + line.string[line.end(2) :]
    write_params(root, document)
    write_text_atomic(root / "conf" / "config.yaml", text)
    return parse_params(document, "params.yaml")


def write_params(root: Path, document: dict[Any, Any]) -> None:
    """Write params.yaml."""
    write_text_atomic(root / "params.yaml", HEADER + yaml_text(document))


def yaml_text(document: dict[Any, Any]) -> str:
    """Write YAML, lists of numbers on one line."""
    from ruamel.yaml import YAML
    from ruamel.yaml.comments import CommentedSeq

    def flow(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: flow(value) for key, value in node.items()}
        if isinstance(node, list):
            sequence = CommentedSeq(node)
            sequence.fa.set_flow_style()
            return sequence
        return node

    yaml, buffer = YAML(), io.StringIO()
    yaml.width = 120
    yaml.dump(flow(document), buffer)
    return buffer.getvalue()


def drift(root: Path) -> list[str]:
    """List the keys in which params.yaml differs from what conf/ composes, with both values."""
    expected, found = flatten(compose(root)), flatten(read_document(root / "params.yaml"))
    return [
        f"{key}: params.yaml has {found.get(key, 'nothing')}, conf/ {expected.get(key, 'nothing')}"
        for key in sorted(expected | found)
        if found.get(key) != expected.get(key)
    ]


def read_document(path: Path) -> dict[Any, Any]:
    """Read a YAML file by the rules that DVC uses (YAML 1.2)."""
    from ruamel.yaml import YAML

    document: dict[Any, Any] = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    return document


def flatten(node: Any, prefix: str = "") -> dict[str, Any]:
    """Turn nested mappings into dotted keys; lists stay whole."""
    if not isinstance(node, dict):
        return {prefix: node}
    items: dict[str, Any] = {}
    for key, value in node.items():
        items |= flatten(value, f"{prefix}.{key}" if prefix else str(key))
    return items


def with_values(
    document: Mapping[Any, Any], values: Mapping[str, Any], subject: object
) -> dict[Any, Any]:
    """Return a copy of a parameter document with other values under dotted keys.

    Raises:
        ConfigError: the document has no such key; the message begins with `subject`.
    """
    changed = copy.deepcopy(dict(document))
    for key, value in values.items():
        *parents, last = key.split(".")
        section: Any = changed
        for parent in parents:
            section = section.get(parent) if isinstance(section, dict) else None
        if not isinstance(section, dict) or last not in section:
            raise ConfigError(subject, f"no parameter is called {key}", "see params.yaml")
        section[last] = copy.deepcopy(value)
    return changed


def _default_line(root: Path) -> re.Match[str]:
    path = root / "conf" / "config.yaml"
    try:
        match = _DEFAULT.search(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(path, "no such file", "run this in the project's folder") from None
    if match is None:
        raise ConfigError(path, "names no default profile", "add `- profile: phantom` to defaults")
    return match
