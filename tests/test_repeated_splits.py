"Your own images without a test set, from a folder per class to the report"
import numpy as np
import pandas as pd
import pytest
import re
from PIL import Image
from synaug.data.sources import load, redrawn
from synaug.errors import LabelError, LeakError
from synaug.study.checks import check_data
from synaug.study.file import read_study
from synaug.study.ledger import read_verdict
from synaug.study.runner import run_study
from synaug.verdicts.statistics import interval, paired

TINY = dict(generator_steps=4, sampling_steps=1, updates=4, batch_size=8, examiner_updates=0)
ARMS = 'real,duplicate,oracle,duplicate:fill,add:unet,add:unet:fill'

def folder_per_class(path, counts, patients=0):
    "PNG images of 16 px, a folder per class (and per patient within), brighter from class to class"
    rng = np.random.default_rng(0)
    for k, (name, n) in enumerate(counts.items()):
        for i in range(n):
            place = path/name/(f'patient_{i % patients}' if patients else '')
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(60*k, 60*k + 80, (16, 16, 3), dtype=np.uint8)).save(place/f'{name}{i}.png')
    return path

def settings(source, **values):
    return [f'{name}={value}' for name, value in (TINY | dict(source=source, arms=ARMS) | values).items()]

@pytest.fixture(scope='module')
def study(tmp_path_factory):
    "Two replicates of your-images, with no argument but the source and what makes them small"
    here = tmp_path_factory.mktemp('your-images')
    source = folder_per_class(here/'cells', dict(round=24, oval=14, split=8))
    run_study(read_study('your-images', settings(source), replicates=2), here/'out', workers=1)
    return source, here/'out'

def test_every_replicate_has_splits_of_its_own(study):
    source, out = study
    ledger = pd.read_parquet(out/'ledger.parquet')
    assert ledger.fingerprint.nunique() == 1 and ledger.replicate.nunique() == 2
    draws = [redrawn(load(source), r) for r in (0, 1)]
    assert draws[0].fingerprint() != draws[1].fingerprint()
    assert set(ledger.test_per_train.round(9)) == {round(d.test_per_train(), 9) for d in draws}
    labels = [np.load(f)['labels/test'].sum(0).tolist() for f in sorted(out.glob('runs/*/predictions.npz'))]
    assert labels == [d.test.labels.sum(0).tolist() for d in draws]

def test_all_labels_are_used_and_rare_classes_filled(study):
    source, out = study
    train = load(source).train
    rows = pd.read_parquet(out/'ledger.parquet').drop_duplicates(['replicate', 'arm']).set_index('arm')
    lacking = (train.counts().max() - train.counts()).sum()
    assert 'oracle' not in rows.index                       # there is no image left for it, and it is said
    for arm in ('real', 'duplicate', 'add:unet'): assert set(rows.n_real[arm]) == {len(train)}, arm
    for arm in ('duplicate:fill', 'add:unet:fill'): assert set(rows.n_extra[arm]) == {lacking}, arm
    said = next(out.glob('runs/*/notebook.ipynb')).read_text()
    assert 'oracle: left out, as all' in said and f'all {len(train)} labelled images; splits of its own' in said

def test_verdicts_and_report_allow_for_shared_images(study):
    _, out = study
    ledger, verdict = pd.read_parquet(out/'ledger.parquet'), read_verdict(out)
    one = verdict[(verdict.arm == 'add:unet') & (verdict.split == 'test') & (verdict.metric == 'macro_ap')].iloc[0]
    d = paired(ledger, 'macro_ap', 'test')['add:unet'].to_numpy()
    ratio = ledger.test_per_train.mean()
    assert np.allclose([one.low, one.high], interval(d, ratio=ratio)) and np.isclose(one.test_per_train, ratio)
    text = re.sub(r'\s+', ' ', re.sub('<[^>]+>', '', (out/'report.html').read_text(encoding='utf-8')))
    assert 'Repeated splits: every replicate drew its own training, validation and test images' in text
    assert 'Nadeau' in text and 'If other images had been in the test set' not in text

@pytest.mark.slow
def test_a_given_test_set_stays(tmp_path):
    rng = np.random.default_rng(1)
    arrays = {f'{split}_images': rng.integers(0, 256, (n, 16, 16, 3), dtype=np.uint8)
              for split, n in dict(train=24, val=9, test=9).items()}
    arrays |= {name.replace('images', 'labels'): np.arange(len(x)) % 3 for name, x in arrays.items()}
    np.savez(tmp_path/'given.npz', **arrays)
    chosen = settings(tmp_path/'given.npz', arms='real,duplicate', labels_per_class='50%')
    run_study(read_study('your-images', chosen, replicates=2), tmp_path/'out', workers=1)
    ledger = pd.read_parquet(tmp_path/'out'/'ledger.parquet')
    assert 'test_per_train' not in ledger
    assert set(ledger.n_real.dropna()) == {12} and set(ledger.labels_per_class) == {'50%'}
    assert 'One fixed test set' in (tmp_path/'out'/'report.html').read_text(encoding='utf-8')

@pytest.mark.parametrize('counts, patients, error, says', [
    (dict(a=12, b=12), 2, LeakError, '2 groups cannot be split into 3 parts; give at least 3 groups'),
    (dict(a=12, b=12, c=4), 0, LabelError, 'repeated splits need 5 images of every class, but c has 4'),
])
def test_what_cannot_be_split_is_one_error_before_any_training(tmp_path, counts, patients, error, says):
    study = read_study('your-images', settings(folder_per_class(tmp_path/'cells', counts, patients)), replicates=2)
    with pytest.raises(error, match=re.escape(says)): run_study(study, tmp_path/'out')
    assert not (tmp_path/'out').exists()

def test_one_fixed_test_set_can_be_asked_for(tmp_path):
    source = folder_per_class(tmp_path/'cells', dict(a=12, b=12, c=4))
    check_data(read_study('your-images', settings(source, repeated_splits='false', arms='real'), replicates=2))
