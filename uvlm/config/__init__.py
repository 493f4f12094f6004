"""Every number of a run, typed: frozen pydantic sections that mirror params.yaml.

A section is named after the stage that reads it; `encoder`, `decoder` and `injection` are shared by
the stages that build those modules. An unknown key is refused, and the nearest valid one named.
Device, workers, paths and tracking are environment variables, never parameters: changing them
must not invalidate a stage.
"""

# `X as X` exports a name, for mypy and ruff; no list of names beside the imports is needed.
from uvlm.config.data import LABEL_KINDS as LABEL_KINDS
from uvlm.config.data import SYNTHETIC as SYNTHETIC
from uvlm.config.data import AbdomenAtlasConfig as AbdomenAtlasConfig
from uvlm.config.data import AbdomenPhantomConfig as AbdomenPhantomConfig
from uvlm.config.data import AirwayConfig as AirwayConfig
from uvlm.config.data import AnatomyConfig as AnatomyConfig
from uvlm.config.data import AuditConfig as AuditConfig
from uvlm.config.data import BackendConfig as BackendConfig
from uvlm.config.data import CtRateConfig as CtRateConfig
from uvlm.config.data import FolderConfig as FolderConfig
from uvlm.config.data import HubConfig as HubConfig
from uvlm.config.data import LabelKind as LabelKind
from uvlm.config.data import LabelMapsConfig as LabelMapsConfig
from uvlm.config.data import LongtailConfig as LongtailConfig
from uvlm.config.data import MappedCases as MappedCases
from uvlm.config.data import Patients as Patients
from uvlm.config.data import PatientsConfig as PatientsConfig
from uvlm.config.data import PhantomConfig as PhantomConfig
from uvlm.config.data import PreprocessConfig as PreprocessConfig
from uvlm.config.data import PseudoLabelConfig as PseudoLabelConfig
from uvlm.config.data import VesselConfig as VesselConfig
from uvlm.config.evaluate import F1_AVERAGES as F1_AVERAGES
from uvlm.config.evaluate import TRIVIAL as TRIVIAL
from uvlm.config.evaluate import GenerateConfig as GenerateConfig
from uvlm.config.model import ClassifierConfig as ClassifierConfig
from uvlm.config.model import DecoderConfig as DecoderConfig
from uvlm.config.model import EncoderConfig as EncoderConfig
from uvlm.config.model import InjectionConfig as InjectionConfig
from uvlm.config.model import TokenizerConfig as TokenizerConfig
from uvlm.config.params import Params as Params
from uvlm.config.params import load_params as load_params
from uvlm.config.params import params_here as params_here
from uvlm.config.params import parse_params as parse_params
from uvlm.config.params import parse_section as parse_section
from uvlm.config.section import Fraction as Fraction
from uvlm.config.section import Grid as Grid
from uvlm.config.section import Section as Section
from uvlm.config.train import AugmentConfig as AugmentConfig
from uvlm.config.train import Chance as Chance
from uvlm.config.train import IntensityConfig as IntensityConfig
from uvlm.config.train import OptimConfig as OptimConfig
from uvlm.config.train import SpatialConfig as SpatialConfig
from uvlm.config.train import TrainClsConfig as TrainClsConfig
from uvlm.config.train import TrainConfig as TrainConfig
from uvlm.config.train import TrainReportConfig as TrainReportConfig
from uvlm.config.train import TrainSegConfig as TrainSegConfig
