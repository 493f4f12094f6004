"""No module can run code from a file; inference/test_planted_pickles.py tries with real files."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Converters read one foreign file each, when a person tells them to.
SOURCES = sorted(
    path
    for folder in ("uvlm", "pipeline", "benchmarks")
    for path in (ROOT / folder).rglob("*.py")
    if not path.stem.endswith("_import")
)
CONVERTERS = sorted((ROOT / "uvlm").rglob("*_import.py"))
FORBIDDEN_MODULES = {
    "pickle", "cPickle", "_pickle", "dill", "cloudpickle", "shelve", "marshal", "jsonpickle",
}  # fmt: skip
FORBIDDEN_CALLS = {
    "torch.load", "torch.jit.load", "torch.hub.load", "joblib.load", "yaml.load", "yaml.full_load",
    "yaml.unsafe_load", "pandas.read_pickle", "pd.read_pickle", "eval", "exec",
}  # fmt: skip
FORBIDDEN_ARGUMENTS = {
    "allow_pickle": True,
    "weights_only": False,
    "trust_remote_code": True,
    "use_safetensors": False,
}


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def dangers(source: str) -> list[str]:
    """What in this source could run code from a file."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [a.name for a in node.names if a.name.split(".")[0] in FORBIDDEN_MODULES]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            is_forbidden = str(node.module).split(".")[0] in FORBIDDEN_MODULES
            found += [name for name in names if is_forbidden or name in FORBIDDEN_CALLS]
        elif isinstance(node, ast.Call):
            name = dotted(node.func)
            given = {k.arg: getattr(k.value, "value", None) for k in node.keywords}
            found += [name] * (name in FORBIDDEN_CALLS)
            found += [f"{k}={v}" for k, v in FORBIDDEN_ARGUMENTS.items() if given.get(k) is v]
            if name.endswith("YAML") and given.get("typ", "rt") not in ("rt", "safe"):
                found.append(f"{name} {given['typ']}")
            is_model = name.endswith(".from_pretrained") and ("For" in name or "Model" in name)
            found += [name] * (is_model and given.get("use_safetensors") is not True)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_can_run_code_from_a_file(path: Path) -> None:
    assert dangers(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from dill import load",
        "from torch import load",
        "x = torch.load(path)",
        "x = np.load(path, allow_pickle=True)",
        "x = joblib.load(path)",
        "x = yaml.load(text)",
        "x = YAML(typ='unsafe').load(text)",
        "x = pd.read_pickle(path)",
        "x = Qwen3ForCausalLM.from_pretrained(folder)",
        "x = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)",
        "x = eval(text)",
    ],
)
def test_the_search_finds_what_it_looks_for(line: str) -> None:
    assert dangers(line)


def test_there_are_converters_and_each_unpickles_tensors_only() -> None:
    assert CONVERTERS
    for path in CONVERTERS:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and dotted(node.func) == "torch.load":
                given = {k.arg: getattr(k.value, "value", None) for k in node.keywords}
                assert given.get("weights_only") is True, path
