"One replicate end to end, from the shipped experiment notebook: nothing that is fitted or chosen depends on the images it is scored on"
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file
from synaug.images import LeakError
from synaug.simulate import simulate
from synaug.study import read_study, run_study

TINY = dict(labels_per_class=3, generator_steps=3, sampling_steps=2, updates=6, batch_size=16, examiner_updates=6)
ARMS = 'arms=real,oracle,add,mix-loss'


def write_npz(path, data):
    "A data set as an .npz file"
    arrays = {}
    for name, s in data.splits().items():
        arrays[f'{name}_images'] = s.images
        if s.labels is not None: arrays[f'{name}_labels'] = s.labels.astype(np.uint8)
        if s.groups is not None: arrays[f'{name}_groups'] = s.groups.astype(str)
    np.savez(path, **arrays, class_names=np.array(data.train.classes), channel_names=np.array(data.train.channels), task=data.train.task)
    return path


def run(path, out):
    "Rows and fitted weights of one replicate on the images in `path`"
    settings = [f'{k}={v}' for k, v in TINY.items()] + [ARMS, f'source={path}']
    run_study(read_study('your-images', settings, replicates=1), out)
    weights = {kind: load_file(next((out/'cache').glob(f'{kind}-*'))/'weights.safetensors') for kind in ('generator', 'examiner')}
    rows = pd.read_parquet(out/'ledger.parquet')
    return rows[rows.arm != 'examiner'].set_index(['arm', 'split', 'metric']).value, weights


def poisoned(s, seed=0):
    "The same groups, but other pixels and other labels"
    rng = np.random.default_rng(seed)
    return replace(s, images=rng.integers(0, 256, s.images.shape, dtype=np.uint8), labels=s.labels[rng.permutation(len(s))])


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
    on_val = rows.index.get_level_values('split') == 'val'
    assert on_val.any() and rows[on_val].equals(before[on_val])             # checkpoints and thresholds: the same to the last bit
    assert not rows[~on_val].equals(before[~on_val])                        # while the poison did reach the scores


def test_the_comparison_above_can_fail(data, clean, tmp_path):
    bad = replace(data, train=replace(data.train, images=255 - data.train.images), val=poisoned(data.val))
    (rows, weights), (before, weights_before) = run(write_npz(tmp_path/'cells.npz', bad), tmp_path/'out'), clean
    assert not any(same(weights[kind], weights_before[kind]) for kind in weights)
    on_val = rows.index.get_level_values('split') == 'val'
    assert not rows[on_val].equals(before[on_val])


def test_a_leak_stops_the_study_before_anything_is_written(data, tmp_path):
    leaky = replace(data, test=replace(data.test, images=np.concatenate([data.train.images[:1], data.test.images[1:]])))
    with pytest.raises(LeakError, match='in both train and test'): run(write_npz(tmp_path/'cells.npz', leaky), tmp_path/'out')
    assert not (tmp_path/'out').exists()
