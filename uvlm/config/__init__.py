"""Every number of a run, typed: frozen pydantic sections that mirror params.yaml.

A section carries the name of the stage that reads it; `encoder`, `decoder` and `injection` are
shared by the stages that build those modules. Unknown keys are refused with the nearest valid one.
Device, workers, paths and tracking are environment variables, never parameters: changing them
must not invalidate a stage.
"""

from uvlm.config.data import (
    LABEL_KINDS,
    AbdomenAtlasConfig,
    AirwayConfig,
    AnatomyConfig,
    AuditConfig,
    BackendConfig,
    CtRateConfig,
    DownloadConfig,
    FolderConfig,
    HubConfig,
    IndexConfig,
    LabelKind,
    LabelMapsConfig,
    Patients,
    PhantomConfig,
    PreprocessConfig,
    PseudoLabelConfig,
    VesselConfig,
)
from uvlm.config.evaluate import (
    EncodeConfig,
    EvaluateConfig,
    GenerateConfig,
    SummarizeConfig,
)
from uvlm.config.model import (
    ClassifierConfig,
    DecoderConfig,
    EncoderConfig,
    InjectionConfig,
    TokenizerConfig,
)
from uvlm.config.params import Params, load_params, params_here, parse_params, parse_section
from uvlm.config.section import Fraction, Grid, Section
from uvlm.config.train import (
    AugmentConfig,
    Chance,
    IntensityConfig,
    OptimConfig,
    SpatialConfig,
    TrainClsConfig,
    TrainConfig,
    TrainReportConfig,
    TrainSegConfig,
)

__all__ = [
    "LABEL_KINDS",
    "AbdomenAtlasConfig",
    "AirwayConfig",
    "AnatomyConfig",
    "AuditConfig",
    "AugmentConfig",
    "BackendConfig",
    "Chance",
    "ClassifierConfig",
    "CtRateConfig",
    "DecoderConfig",
    "DownloadConfig",
    "EncodeConfig",
    "EncoderConfig",
    "EvaluateConfig",
    "FolderConfig",
    "Fraction",
    "GenerateConfig",
    "Grid",
    "HubConfig",
    "IndexConfig",
    "InjectionConfig",
    "IntensityConfig",
    "LabelKind",
    "LabelMapsConfig",
    "OptimConfig",
    "Params",
    "Patients",
    "PhantomConfig",
    "PreprocessConfig",
    "PseudoLabelConfig",
    "Section",
    "SpatialConfig",
    "SummarizeConfig",
    "TokenizerConfig",
    "TrainClsConfig",
    "TrainConfig",
    "TrainReportConfig",
    "TrainSegConfig",
    "VesselConfig",
    "load_params",
    "params_here",
    "parse_params",
    "parse_section",
]
