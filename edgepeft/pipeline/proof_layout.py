"""The stages of a plan that prove what it builds: witness, float graphs, reference and verification."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from edgepeft.evaluation.execution import choose_execution
from edgepeft.evaluation.witness.exact import OF_EXPORT, float_target, is_exact
from edgepeft.pipeline.ingredients import Files
from edgepeft.pipeline.layout import Layout
from edgepeft.pipeline.plan import Plan
from edgepeft.targets import TargetProfile


class ProofLayout:
    """Adds these stages to a plan through its ``Layout``."""

    def __init__(self, layout: Layout, plan: Plan) -> None:
        self._layout = layout
        self._plan = plan
        self._read = layout.read
        self._recipe = plan.recipe.recipe

    @property
    def steps(self) -> Mapping[str, Callable[[], None]]:
        """What adds the stages of each kind that proves something."""
        return {
            "witness": self._witness,
            "float-graph": self._float_graphs,
            "reference": self._reference,
            "verify": self._verify,
        }

    def _reference(self) -> None:
        """The unmerged adapter on its base, and each further one, on all probes."""
        _, inputs, files = self._read.adapted
        self._refer("reference", self._recipe.data.test, inputs, files)
        for adapter in self._recipe.adapters:
            test = adapter.test or self._recipe.data.test
            folder = self._read.folder(adapter.path)
            self._refer(f"reference-{adapter.name}", test, {"base": "base"}, {"adapter": folder})

    def _refer(
        self,
        name: str,
        test: str | None,
        inputs: Mapping[str, str],
        adapter: Files,
    ) -> None:
        files = {"test": self._read.file(test)}
        if self._recipe.data.generic is not None:
            files["generic"] = self._read.file(self._recipe.data.generic)
        self._layout.add(
            name,
            "reference",
            {
                **self._read.task(),
                "merge": {
                    "base": "dequantized",
                    "grid": self._recipe.merge.grid,
                    "allow_base_mismatch": self._recipe.merge.allow_base_mismatch,
                },
                "data": self._read.data_settings("max_length"),
            },
            inputs,
            {**files, **adapter, **self._read.template()},
            form=self._layout.form,
        )

    def _witness(self) -> None:
        """What transformers and PEFT say by themselves: of the merged adapter, and of each one that is
        swapped.
        """
        _, inputs, files = self._read.adapted
        merges = any(not self._plan.swaps(target) for target in self._plan.targets)
        if merges:
            self._testify("witness", self._recipe.data.test, inputs, files)
        if not any(self._plan.swaps(target) for target in self._plan.targets):
            return
        self._testify("witness-swapped", self._recipe.data.test, inputs, files, swapped=True)
        for adapter in self._recipe.adapters:
            self._testify(
                f"witness-{adapter.name}",
                adapter.test or self._recipe.data.test,
                {"base": "base"},
                {"adapter": self._read.folder(adapter.path)},
                swapped=True,
            )

    def _testify(
        self,
        name: str,
        test: str | None,
        inputs: Mapping[str, str],
        adapter: Files,
        *,
        swapped: bool = False,
    ) -> None:
        files = {**self._read.model(), "test": self._read.file(test)}
        if self._recipe.data.generic is not None:
            files["generic"] = self._read.file(self._recipe.data.generic)
        settings = {
            **self._read.task(),
            "merge": self._read.merge_settings(),
            "data": self._read.data_settings("max_length"),
            **(self._read.base_alone.settings if swapped else {}),
        }
        self._layout.add(
            name,
            "witness",
            settings,
            inputs,
            {**files, **adapter, **self._read.template()},
            form=self._layout.form,
        )

    def _float_graphs(self) -> None:
        """The float form of every quantized graph, once for targets whose graphs differ in their weights
        alone.
        """
        for target in self._plan.targets:
            if is_exact(target):
                continue
            name = self._plan.float_graph(target)
            if self._plan.swaps(target):
                adapt = f"adapt-{target.name}"
                own = self._plan.recipe.adapter_name
                self._float_graph(name, target, "witness-swapped", f"{adapt}-{own}")
                for adapter in self._recipe.adapters:
                    witness = f"witness-{adapter.name}"
                    self._float_graph(
                        f"{name}-{adapter.name}", target, witness, f"{adapt}-{adapter.name}"
                    )
            elif all(stage.name != name for stage in self._plan.stages):
                self._float_graph(name, target, "witness", None)

    def _float_graph(
        self, name: str, target: TargetProfile, witness: str, adapter: str | None
    ) -> None:
        settings, inputs, files = self._layout.exported(target, float_target(target))
        self._layout.add(
            name,
            "float-graph",
            {"exporter": target.exporter, "settings": settings},
            {
                "witness": witness,
                **({} if adapter is None else {"adapter": adapter}),
                **{f"{OF_EXPORT}{key}": stage for key, stage in inputs.items()},
            },
            {f"{OF_EXPORT}{key}": file for key, file in files.items()},
        )

    def _verify(self) -> None:
        """Each finished graph, with each adapter it takes, against its reference and its witness."""
        for target in self._plan.targets:
            stem = f"verify-{target.name}"
            if not self._plan.swaps(target):
                self._measure(target, stem, "reference", "witness", None)
                continue
            adapt = f"adapt-{target.name}"
            own = f"{adapt}-{self._plan.recipe.adapter_name}"
            self._measure(target, stem, "reference", "witness-swapped", own)
            for adapter in self._recipe.adapters:
                name = adapter.name
                self._measure(
                    target,
                    f"{stem}-{name}",
                    f"reference-{name}",
                    f"witness-{name}",
                    f"{adapt}-{name}",
                    further=f"-{name}",
                )

    def _measure(
        self,
        target: TargetProfile,
        name: str,
        reference: str,
        witness: str,
        adapter: str | None,
        further: str = "",
    ) -> None:
        execution = choose_execution(target.provider, target.io_dtype, target.verify_provider)
        inputs = {
            "bundle": f"export-{target.name}",
            "reference": reference,
            "base": "base",
            "witness": witness,
        }
        if not is_exact(target):
            inputs["float-graph"] = f"{self._plan.float_graph(target)}{further}"
        self._layout.add(
            name,
            "verify",
            # What is on this machine enters the key: where a GPU comes, the bundle is verified anew.
            {"execution": execution.as_dict()},
            inputs if adapter is None else {**inputs, "adapter": adapter},
            {},
            form=self._layout.form,
        )
