"""The commands of `nano2 data`."""

from stages.common.stage import Stage
from stages.data.convert.config import ConvertConfig
from stages.data.longqa.config import LongqaConfig
from stages.data.prepare.config import PrepareConfig
from stages.data.show.config import ShowConfig
from stages.data.synth.config import SynthConfig
from stages.data.tokenizer.config import TokenizerConfig

TOKENIZER = Stage(
    name="data tokenizer", kind="tokenizer", config=TokenizerConfig, run="stages.data.tokenizer.run:run"
)
PREPARE = Stage(name="data prepare", kind="dataset", config=PrepareConfig, run="stages.data.prepare.run:run")
CONVERT = Stage(name="data convert", kind="dataset", config=ConvertConfig, run="stages.data.convert.run:run")
SYNTH = Stage(name="data synth", kind="dataset", config=SynthConfig, run="stages.data.synth.run:run")
SHOW = Stage(name="data show", kind=None, config=ShowConfig, run="stages.data.show.run:run")
LONGQA = Stage(
    name="data longqa",
    kind="dataset",
    config=LongqaConfig,
    run="stages.data.longqa.run:run",
    resumable=True,
)
