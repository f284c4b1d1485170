"The figure of README, drawn from the committed ledger of the quick study: `python docs/figure.py`"
from pathlib import Path

import pandas as pd
from synaug.plots.study import differences
from synaug.verdicts.statistics import verdicts
from synaug.study.ledger import comparable

root = Path(__file__).resolve().parent.parent
ledger = comparable(pd.read_parquet(root/'nbs'/'results'/'quick.parquet'))
figure = differences(verdicts(ledger), 'macro_ap')
figure.savefig(root/'docs'/'images'/'quick.png', dpi=110)
