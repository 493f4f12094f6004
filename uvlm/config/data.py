"""Sections of the data stages: from raw files to label maps, and their audit."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Self, get_args

from pydantic import Field, model_validator

from uvlm.config.section import Fraction, Grid, Section, forbid

# The sources whose CTs are no patient's.
SYNTHETIC: Final = frozenset({"phantom", "longtail", "phantom_abdomen"})
_Mm = Annotated[float, Field(gt=0)]
_Part = Annotated[float, Field(ge=0, le=1)]
_Share = Annotated[float, Field(gt=0, lt=1)]


class PatientsConfig(Section):
    """How many synthetic chest CTs are written, and how."""

    train_patients: int = Field(ge=4)
    test_patients: int = Field(ge=2)
    shape: Grid
    second_scan_fraction: Fraction = Field(ge=0, le=1)
    second_reconstruction_fraction: Fraction = Field(ge=0, le=1)
    noise_hu: float = Field(ge=0)
    defects: bool


class PhantomConfig(PatientsConfig):
    """Synthetic chest CTs that are easy to learn: every abnormality equally frequent."""

    prevalence: Fraction = Field(gt=0, lt=1)


class LongtailConfig(PatientsConfig):
    """Synthetic chest CTs as hard as CT-RATE's.

    `present`: the share of scans that show an abnormality, for each of the 18 by name. `denied`:
    the share of reports that say so where it is absent; the others are silent.
    `co_occurrence`: 1 for the correlations measured on CT-RATE, 0 for independent abnormalities.
    `sizes`: which part of the logarithmic scale is drawn from; 0 is a voxel, 1 a lobe.
    `wording`: in which of two ways the reports are written.
    """

    present: dict[str, _Share]
    denied: dict[str, _Part]
    co_occurrence: Fraction = Field(ge=0, le=1)
    sizes: tuple[_Part, _Part]
    wording: Literal["home", "foreign"]

    @model_validator(mode="after")
    def _sizes_ascend(self) -> Self:
        low, high = self.sizes
        forbid((low > high, f"sizes goes from {low} to {high}"))
        return self


class AbdomenPhantomConfig(Section):
    """Synthetic abdominal CTs; `present` and `sizes` as for `longtail`, of three lesions."""

    train_patients: int = Field(ge=4, le=4000)
    test_patients: int = Field(ge=2, le=4000)
    shape: Grid
    noise_hu: float = Field(ge=0)
    present: dict[str, _Share]
    sizes: tuple[_Part, _Part]


Patients = int | tuple[str, ...] | None


class HubConfig(Section):
    """Which part of a data set on the Hugging Face hub is fetched.

    `revision` is a commit, tag or branch of its repository. `train` and `test` choose patients of
    the official parts: a number of them, a list, or all (null). Whatever `exclude` names (files,
    volumes, scans or patients) is left out and counted.
    """

    revision: str = Field(min_length=1)
    train: Patients
    test: Patients
    exclude: tuple[str, ...]

    @model_validator(mode="after")
    def _both_parts_have_patients(self) -> Self:
        for name, choice in (("train", self.train), ("test", self.test)):
            is_empty = choice < 1 if isinstance(choice, int) else choice == ()
            forbid((is_empty, f"{name} chooses no patient"))
        return self


class CtRateConfig(HubConfig):
    """CT-RATE v2 and ReXGroundingCT.

    `reconstructions: first` takes one volume a scan; `annotated_first` too, but the one whose
    findings are drawn if there is one. `anatomy_masks` are fetched for cases that can get a label
    map (label_maps.cases). `keep_raw`: which volumes stay on disk; any other is fetched by name for
    each stage that needs it, and dropped. "annotated" are those with a findings mask.
    """

    rexgrounding_revision: str = Field(min_length=1)
    reconstructions: Literal["all", "first", "annotated_first"]
    anatomy_masks: bool
    findings_masks: bool
    keep_raw: Literal["all", "annotated", "none"]

    @model_validator(mode="after")
    def _annotated_volumes_are_known(self) -> Self:
        forbid((self.keep_raw == "annotated" and not self.findings_masks,
                "keep_raw is annotated but findings_masks is false, so nothing would be kept"),
        )  # fmt: skip
        return self


class AbdomenAtlasConfig(HubConfig):
    """AbdomenAtlas 3.0 Mini."""

    report: Literal["structured", "narrative", "fusion structured", "fusion narrative"]
    masks: bool


class FolderConfig(Section):
    """Your own CTs and reports; `$UVLM_OWN_DATA` names the folder that holds both.

    `table` is a CSV file in it. `file_column` holds each CT's file or DICOM folder; without it, a
    CT is named after its id. Without a patient column every row is a patient of its own; without a
    split column, `test_fraction` of the patients are the test part.
    """

    table: str
    id_column: str
    findings_column: str
    impression_column: str | None
    file_column: str | None
    patient_column: str | None
    split_column: str | None
    test_fraction: Fraction = Field(gt=0, lt=1)


class DownloadConfig(Section):
    """Where raw volumes, reports, labels and lesion masks come from: one section per source.

    `other` holds the parameters of a data set without a section here; params.yaml writes them under
    the name of the set, which validates them itself.
    """

    source: str
    phantom: PhantomConfig | None
    ct_rate: CtRateConfig | None
    abdomen_atlas: AbdomenAtlasConfig | None
    folder: FolderConfig | None
    longtail: LongtailConfig | None = None  # params.yaml has these only where they are used
    phantom_abdomen: AbdomenPhantomConfig | None = None
    other: dict[str, Any] | None = None

    @property
    def section(self) -> Any:
        """The section that belongs to `source`."""
        return getattr(self, self.source if self.source in type(self).model_fields else "other")

    @model_validator(mode="before")
    @classmethod
    def _another_source_becomes_other(cls, document: Any) -> Any:
        if not isinstance(document, dict) or document.get("source") in list(cls.model_fields):
            return document
        return {"other" if k == document.get("source") else k: v for k, v in document.items()}

    @model_validator(mode="after")
    def _the_source_has_its_section(self) -> Self:
        there = [name for name, section in self if name != "source" and section is not None]
        forbid(
            (self.section is None,
             f"source is {self.source} but the section {self.source} is missing; "
             f"there is a section for {' and '.join(there) or 'no data set'}"),
            (self.other is not None and self.section is not self.other,
             f"other does nothing while source is {self.source}"),
        )  # fmt: skip
        return self


class IndexConfig(Section):
    """How cases are split, and what share may be refused before the run stops."""

    val_fraction: Fraction = Field(gt=0, lt=1)
    max_quarantined_share: Fraction = Field(ge=0, le=1)


class PreprocessConfig(Section):
    """The preprocessing contract that travels with every checkpoint."""

    orientation: Literal["LPS"]
    clip_hu: tuple[int, int]
    grid: Grid
    resize: Literal["stretch", "resample_pad"]
    spacing_mm: tuple[_Mm, _Mm, _Mm] | None = None
    normalise: Literal["window", "zscore"]
    window_hu: tuple[int, int]

    @model_validator(mode="after")
    def _ranges_ascend(self) -> Self:
        ranges = ("clip_hu", *self.clip_hu), ("window_hu", *self.window_hu)
        forbid(
            *((low >= high, f"{name} goes from {low} to {high}") for name, low, high in ranges),
            (self.resize == "resample_pad" and self.spacing_mm is None,
             "resize is resample_pad but spacing_mm is missing"),
        )  # fmt: skip
        return self


# The anatomical pseudo-labels; `PseudoLabelConfig` has a section for each of them.
LabelKind = Literal["anatomy", "airway", "vessel"]
LABEL_KINDS: Final[tuple[LabelKind, ...]] = get_args(LabelKind)


class BackendConfig(Section):
    """One source of anatomical pseudo-labels."""

    backend: str


class AnatomyConfig(BackendConfig):
    """`fast` selects TotalSegmentator's single model at 3 mm instead of the five at 1.5 mm."""

    backend: Literal[
        "totalsegmentator", "ct_rate_masks", "abdomen_atlas_masks", "phantom", "phantom_abdomen",
        "none",
    ]  # fmt: skip
    fast: bool


class AirwayConfig(BackendConfig):
    """`spacing_mm` is the grid that `atm22` works on; null is the CT's own."""

    backend: Literal["totalsegmentator", "atm22", "phantom", "none"]
    spacing_mm: float | None = Field(gt=0)


class VesselConfig(BackendConfig):
    """Which ids arteries and veins have in the files of the backend `masks`."""

    backend: Literal["totalsegmentator", "masks", "phantom", "none"]
    artery_id: int = Field(ge=1, le=255)
    vein_id: int = Field(ge=1, le=255)


class PseudoLabelConfig(Section):
    """Where each kind of pseudo-label comes from."""

    anatomy: AnatomyConfig
    airway: AirwayConfig
    vessel: VesselConfig


# Which cases get a label map; `uvlm.data.cases.gets_label_map` is the rule.
MappedCases = Literal["annotated", "annotated_and_normal", "all"]


class LabelMapsConfig(Section):
    """Which classes the segmentation network separates, and from which cases it learns.

    `cases`, the same for every scheme: `annotated` are those whose lesions somebody has drawn;
    `annotated_and_normal` also those without a lesion; `all` also those with lesions that nobody
    drew, which only a scheme without lesion classes can take.

    `ignore_margin_mm`: voxels within this distance of a finding that may have instances nobody drew
    do not count in the loss of a training case; 0 trusts their labels.
    """

    dataset: Literal["chest", "abdomen"]
    scheme: Literal["coarse", "coarse_lesion", "fine_lesion"]
    cases: MappedCases = "annotated_and_normal"  # params.yaml from before there was a choice
    priority: tuple[LabelKind | Literal["lesion"], ...]
    ignore_margin_mm: float = Field(ge=0, le=100)


class AuditConfig(Section):
    """What is checked before any training.

    `near_duplicate`: how far two images on different sides of a split must differ, in units of
    their own spread. `plausible`: whose anatomy the label maps are compared with.
    `unflagged_shown`: how many label maps without a flag the page shows for comparison.
    """

    near_duplicate: float = Field(gt=0, lt=1)
    plausible: Literal["adult", "phantom"]
    unflagged_shown: int = Field(ge=0, le=20)
