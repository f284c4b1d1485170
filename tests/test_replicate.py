"One replicate end to end, from the shipped notebook: nothing fitted or chosen depends on the images it is scored on"
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file
from synaug.evaluation import choose_thresholds, score
from synaug.errors import LeakError
from synaug.data.simulate import simulate
from synaug.study.file import read_study
from synaug.outcome import read_predictions
from synaug.study.kept import group_intervals
from synaug.study.runner import run_study

TINY = dict(labels_per_class=5, generator_steps=3, sampling_steps=2, updates=6, batch_size=16, examiner_updates=6,
            pool_updates=3)
ARMS = 'arms=real,oracle,add,mix-loss'


def write_npz(path, data):
    "A data set as an .npz file"
    arrays = {}
    for name, s in data.splits().items():
        arrays[f'{name}_images'] = s.images
        if s.labels is not None: arrays[f'{name}_labels'] = s.labels.astype(np.uint8)
        if s.groups is not None: arrays[f'{name}_groups'] = s.groups.astype(str)
    names = dict(class_names=np.array(data.train.classes), channel_names=np.array(data.train.channels))
    np.savez(path, **arrays, **names, task=data.train.task)
    return path


def run(path, out):
    "Rows and fitted weights of one replicate on the images in `path`"
    settings = [f'{k}={v}' for k, v in TINY.items()] + [ARMS, f'source={path}']
    run_study(read_study('your-images', settings, replicates=1), out)
    folders = {kind: next((out/'cache').glob(f'{kind}-*')) for kind in ('unet', 'examiner')}
    weights = {kind: load_file(folder/'weights.safetensors') for kind, folder in folders.items()}
    rows = pd.read_parquet(out/'ledger.parquet')
    return rows.set_index(['arm', 'split', 'metric']).value, weights


def poisoned(s, seed=0):
    "The same groups, but other pixels and other labels"
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, s.images.shape, dtype=np.uint8)
    return replace(s, images=images, labels=s.labels[rng.permutation(len(s))])


def same(a, b): return set(a) == set(b) and all(np.array_equal(a[k], b[k]) for k in a)


@pytest.fixture(scope='module')
def data(): return simulate(seed=3, size=16, n_train=160, n_val=60, n_test=60, n_pool=30, n_shift=40)


@pytest.fixture(scope='module')
def clean(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp('clean')
    return run(write_npz(folder/'cells.npz', data), folder/'out')


def test_a_poisoned_test_set_changes_nothing_that_was_fitted_or_chosen(data, clean, tmp_path):
    bad = replace(data, test=poisoned(data.test), shifts={k: poisoned(s) for k, s in data.shifts.items()})
    (rows, weights), (before, weights_before) = run(write_npz(tmp_path/'cells.npz', bad), tmp_path/'out'), clean
    for kind in weights: assert same(weights[kind], weights_before[kind]), kind
    arm, on_val = rows.index.get_level_values('arm'), rows.index.get_level_values('split') == 'val'
    assert on_val.any() and rows[on_val].equals(before[on_val])         # checkpoints, thresholds: the same, bit by bit
    audits = arm == 'audit'
    assert audits.sum() > 20 and rows[audits].equals(before[audits])    # no audit looks at what is scored
    scored = ~on_val & (arm != 'audit')
    assert not rows[scored].equals(before[scored])                          # while the poison did reach the scores


@pytest.mark.slow
def test_the_comparison_above_can_fail(data, clean, tmp_path):
    bad = replace(data, train=replace(data.train, images=255 - data.train.images), val=poisoned(data.val))
    (rows, weights), (before, weights_before) = run(write_npz(tmp_path/'cells.npz', bad), tmp_path/'out'), clean
    assert not any(same(weights[kind], weights_before[kind]) for kind in weights)
    arm, on_val = rows.index.get_level_values('arm'), rows.index.get_level_values('split') == 'val'
    assert not rows[on_val].equals(before[on_val]) and not rows[arm == 'audit'].equals(before[arm == 'audit'])


def test_audits_predictions_and_report_of_a_run(data, clean, tmp_path_factory):
    rows, _ = clean
    out = next(p for p in tmp_path_factory.getbasetemp().glob('clean*/out'))
    audit = rows['audit']
    measured = set(audit['samples'].index)
    assert {'label_auroc', 'copied_looks', 'copied_features', 'told_apart_spectrum', 'coverage'} <= measured
    assert {'shortcut:add', 'shortcut:mix-loss'} <= measured and 'shortcut:real' not in measured
    assert {'samples', 'real', 'chance', 'chance_high', 'baseline'} == set(audit.index.get_level_values('split'))
    kept = read_predictions(next(out.glob('runs/*')))
    for name, s in data.scored().items(): assert np.array_equal(kept.labels[name], s.labels)
    for arm, probs in kept.probs.items():                               # what was kept gives the ledger's scores
        thresholds = choose_thresholds(kept.labels['val'], probs['val'])
        for name, p in probs.items():
            again = score(kept.labels[name], p, kept.task, kept.classes, thresholds)
            assert np.allclose([again[m] for m in rows[arm][name].index], rows[arm][name])
    alone = group_intervals(out, n_boot=200).set_index('arm')                   # one replicate: over test images only
    difference = rows['add']['test']['macro_ap'] - rows['real']['test']['macro_ap']
    assert abs(alone.difference['add'] - difference) < 1e-6 and alone.low['add'] < difference < alone.high['add']
    html = (out/'report.html').read_text()
    parts = 'On test, add', '<strong>Audits.</strong>', 'id="Verdict"', 'id="Audits"', 'id="Data"'
    order = [html.index(text) for text in parts]
    assert order == sorted(order) and 'had been in the test set' in html
    assert f"{audit['samples']['copied_looks']:.1%} of the samples are closer to a training image than" in html
    assert 'No two images of different splits look like the same picture' in html and '>nan<' not in html


@pytest.mark.slow
def test_too_little_for_an_audit_is_said(tmp_path):
    "Two images per class: no match by label, hence no diversity and no shortcut; without examiner no labels"
    few = simulate(seed=4, size=16, n_train=60, n_val=4, n_test=6, n_pool=0, n_shift=0)
    settings = [f'{k}={v}' for k, v in (TINY | dict(labels_per_class=2, examiner_updates=0)).items()]
    source = write_npz(tmp_path/'few.npz', few)
    study = read_study('your-images', [*settings, 'arms=real,add', f'source={source}'], replicates=1)
    run_study(study, tmp_path/'out')
    rows, html = pd.read_parquet(tmp_path/'out'/'ledger.parquet'), (tmp_path/'out'/'report.html').read_text()
    assert set(rows.metric[rows.arm == 'audit']) == {'copied_looks', 'nearest_looks'}
    for audit in ('labels', 'diversity', 'told apart', 'source shortcut'): assert f'Not measured: {audit}.' in html
    assert 'Not measured: copies' not in html


def test_a_leak_stops_the_study_before_anything_is_written(data, tmp_path):
    leaky = replace(data, test=replace(data.test, images=np.concatenate([data.train.images[:1], data.test.images[1:]])))
    source = write_npz(tmp_path/'cells.npz', leaky)
    with pytest.raises(LeakError, match='in both train and test'): run(source, tmp_path/'out')
    assert not (tmp_path/'out').exists()
