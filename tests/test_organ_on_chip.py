"""The study of paper 3

On simulated pictures in the layout of the real Organ-on-a-Chip set, and on simulated cells with a base of its own
"""
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from synaug.generators.text_to_image import SmallDiffusion
from synaug.generators.text_to_image import save as save_base
from synaug.data.images import ImageSet
from synaug.data.sources import load
from synaug.errors import StudyError
from synaug.study.file import read_study
from synaug.study.runner import run_study

TINY = dict(base_autoencoder_steps=2, base_steps=2, lora_steps=2, rank=2, sampling_steps=2, batch_size=16,
            examiner_updates=0)
DAYS = [f'20{month:02d}{day:02d}' for month in range(1, 8) for day in (3, 17)]
LINES = 'A549', 'Caco-2', 'HUVEC'


def run(out, replicates, **parameters):
    "Run the shipped study with these parameters; its ledger and its report"
    shown = [f'{k}={json.dumps(v) if isinstance(v, list) else v}' for k, v in (TINY | parameters).items()]
    report = run_study(read_study('organ-on-chip', shown, replicates), out, workers=1)
    return pd.read_parquet(out/'ledger.parquet'), Path(report).read_text()


def noise(*shape, seed=0): return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture(scope='module')
def chip(tmp_path_factory):
    """[split/]quality/YYMMDD_N.png, 4:3, with a sheet

    Every day lies in all shipped splits, is nearly all good or nearly all bad, and has a colour of its own: what is
    learnt of one day says nothing of another"""
    folder, rows, rng = tmp_path_factory.mktemp('sources')/'chip', [], np.random.default_rng(0)
    for d, day in enumerate(DAYS):
        colour = rng.uniform(30, 220, 3)
        for i in range(26):
            good, split = d % 2 if i % 13 else 1 - d % 2, ('train', 'train', 'train', 'test', 'val')[i % 5]
            path = folder/split/('bad', 'good')[good]/f'{day}_{i}.png'
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((colour + rng.normal(0, 12, (30, 40, 3))).clip(0, 255).astype(np.uint8)).save(path)
            rows.append(f'{len(rows)},{path.name},{LINES[d % 3]},{d % 2}')
    (folder/'sheet.csv').write_text('No,Image name,Cell type,Flow\n' + '\n'.join(rows))
    return folder


@pytest.fixture(scope='module')
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp('models')/'base'
    pool = ImageSet(noise(16, 16, 16, 3), None, (), ('red', 'green', 'blue'))
    tiny = dict(size=16, widths=(16, 32), autoencoder_widths=(8, 16), text_width=16, autoencoder_steps=2, steps=2)
    save_base(SmallDiffusion.fit([('brightfield microscopy', pool)], **tiny, progress=False), folder)
    return folder


def test_the_organ_on_a_chip_layout_goes_through_the_study(chip, base, tmp_path):
    by_day = load(chip, size=16)
    days = [set(s.groups) for s in (by_day.train, by_day.val, by_day.test)]
    assert set.union(*days) == {f'20{d[:2]}-{d[2:4]}-{d[4:]}' for d in DAYS} and sum(map(len, days)) == len(DAYS)
    arms = ['real', 'duplicate', 'oracle', 'add:lora-25%', 'only:lora']
    settings = dict(size=16, labels_per_class=40, updates=80, template='brightfield microscopy of {cell line}, {label}')
    ledger, report = run(tmp_path/'study', 1, source=chip, arms=arms, base=base, **settings)
    scored = ledger[ledger.arm.isin(arms)]
    assert set(scored.arm) == set(arms) and set(scored.split) == {'val', 'test'}
    assert scored[scored.split == 'test'].n_split.unique() == [len(by_day.test)]
    extra = {'real': 0, 'duplicate': 80, 'oracle': 80, 'add:lora-25%': 20, 'only:lora': 80}
    assert scored.groupby('arm').n_extra.first().to_dict() == extra
    accuracy = ledger[ledger.metric == 'balanced_accuracy']
    split = accuracy[accuracy.arm == 'real, by split'].set_index('split').value
    of_real = accuracy[(accuracy.arm == 'real') & (accuracy.split == 'test')].value.item()
    assert split['date'] == of_real and split['shipped - date'] == pytest.approx(split['shipped'] - split['date'])
    assert split['shipped'] > .65 and split['shipped - date'] > .1      # known days are recognised, others are not
    assert 'real, by split' in report and 'shipped - date' in report
    made = json.loads(next((tmp_path/'study'/'cache').glob('lora-*/generator.json')).read_text())
    assert {row['cell line'] for _, row in made['known']} == set(LINES) and len(made['known']) == 80


@pytest.mark.slow
def test_one_small_base_serves_all_replicates(tmp_path):
    pool = tmp_path/'tiles.npz'
    np.savez(pool, pool_images=noise(16, 20, 20, 3, seed=1))
    ledger, report = run(tmp_path/'study', 2, source='simulate', size=16, labels_per_class=4, updates=2,
                         arms=['real', 'add:lora:of-mixture-50%'], base_sources=[f'stained tissue={pool}'])
    kept = tmp_path/'study'/'cache'
    assert ledger.replicate.nunique() == 2
    assert len(list(kept.glob('base-*'))) == 1 and len(list(kept.glob('lora-*'))) == 2
    assert ledger.base_sources.unique().tolist() == ['["stained tissue=tiles.npz"]']
    assert 'real, by split' not in set(ledger.arm)
    extra = ledger[ledger.arm == 'add:lora:of-mixture-50%']
    assert (extra.n_extra == extra.n_real).all()


@pytest.mark.slow
def test_a_base_that_has_seen_labelled_images_of_the_source_is_refused(tmp_path):
    pool = tmp_path/'train.npz'
    np.savez(pool, pool_images=load('simulate', size=16).train.images[:20])
    with pytest.raises(StudyError, match='LeakError: 20 images of train were fitted on'):
        run(tmp_path/'study', 1, source='simulate', size=16, labels_per_class=4, updates=2, arms=['real', 'add:lora'],
            base_sources=[f'cells={pool}'])
