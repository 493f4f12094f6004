"""The stages of all trials as one graph, in which equal work is one node.

The edges are those of dvc.yaml. A node's key covers its command, its parameters, the code that its
script reaches and the keys of the nodes before it, so two trials share a node exactly if DVC would
find the outputs of one in its run cache for the other. Nothing needs to have run for that, and the
key is the same on every machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from pipeline.dvc_yaml import Declaration, digest, params_by_script, read_declarations, stage_params
from pipeline.reach import Checkout
from pipeline.sweep.trial import Trial
from uvlm.errors import ConfigError
from uvlm.files import key_of

CODE_STAGE: Final = "code"  # depends on all of params.yaml, and its outputs on none of it


@dataclass(eq=False)
class Node:
    """One run of one stage, for every trial that needs it."""

    key: str
    declaration: Declaration
    needs: frozenset[str]  # keys of the nodes before it
    trials: list[Trial] = field(default_factory=list)
    own: str = ""  # digest of all of it but `needs`

    @property
    def stage(self) -> str:
        """The name in dvc.yaml."""
        return self.declaration.name


class Graph:
    """All nodes by key, each behind those that it needs, and the way of each trial through them."""

    def __init__(self, root: Path, trials: Sequence[Trial]) -> None:
        self.root = root
        self.trials = trials
        self.declarations = read_declarations(root)
        self.nodes: dict[str, Node] = {}
        self.ways: dict[str, dict[str, Node]] = {}  # by trial and stage, in the order of running
        for trial in trials:
            self.ways[trial.name] = way = dict(self._way(trial))
            for node in way.values():
                self.nodes.setdefault(node.key, node).trials.append(trial)

    def last(self, trial: Trial) -> Node:
        """Return the node that scores a trial; its key is that of the result."""
        return self.ways[trial.name][trial.last_stage]

    def way(self, trial: Trial) -> list[str]:
        """List the stages of a trial, `code` first."""
        return [CODE_STAGE, *self.ways[trial.name]]

    def after(self, nodes: Iterable[Node]) -> Iterator[Node]:
        """Yield every node that needs one of these, directly or not, and these themselves."""
        lost = {node.key for node in nodes}
        for node in self.nodes.values():  # those before a node come first
            if node.key in lost or node.needs & lost:
                lost.add(node.key)
                yield node

    @cached_property
    def code(self) -> Mapping[str, Mapping[str, Any]]:
        """Describe what each script reaches, as the stage `code` would."""
        checkout, declared = Checkout(self.root), params_by_script(self.root)
        return {script: checkout.describe(script, keys) for script, keys in declared.items()}

    @cached_property
    def _makers(self) -> Mapping[str, str]:
        """Name the stage that makes each path."""
        return {path: d.name for d in self.declarations.values() for path in d.outs}

    def _way(self, trial: Trial) -> Iterator[tuple[str, Node]]:
        keys: dict[str, str] = {}
        for name in self._stages(trial.last_stage):
            declaration = self.declarations[name]
            needs = {keys[m] for dep in declaration.deps if (m := self._maker(dep)) != CODE_STAGE}
            node = self._node(declaration, trial, frozenset(needs))
            keys[name] = node.key
            yield name, self.nodes.get(node.key, node)

    def _node(self, declaration: Declaration, trial: Trial, needs: frozenset[str]) -> Node:
        params = stage_params(trial.document, declaration)
        reached = self.code[declaration.script]["digest"]
        read_only = self._read_only(declaration)
        own = key_of(declaration.name, declaration.command, params, reached, read_only)
        return Node(key_of(own, sorted(needs)), declaration, needs, own=own)

    def _read_only(self, declaration: Declaration) -> dict[str, str]:
        """Digest what a stage reads that no stage makes."""
        deps = [dep for dep in declaration.deps if dep not in self._makers]
        return {dep: digest(self.root / dep) for dep in deps}

    def _maker(self, dep: str) -> str:
        return self._makers.get(dep, CODE_STAGE)

    def _stages(self, last: str) -> list[str]:
        """List the stages that lead to `last`, each behind those that it needs, without `code`."""
        if last not in self.declarations:
            raise ConfigError("dvc.yaml", f"has no stage {last}", "choose one of its stages")
        ordered: dict[str, None] = {}

        def visit(name: str) -> None:
            for dep in self.declarations[name].deps:
                if (maker := self._maker(dep)) != CODE_STAGE and maker not in ordered:
                    visit(maker)
            ordered[name] = None

        visit(last)
        return list(ordered)
