"""Every guard of the trial refuses a planted fault; and with the guard switched off in the real code, the same fault gets through.
The second half is what makes the first one worth something: whoever removes a guard breaks a test."""
import inspect
import json
import re
import sys
import textwrap
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import Mock, patch

import matplotlib
import numpy as np
import pytest
import torch
from sklearn import config_context
from synaug import evaluation, replicate as trial
from synaug.classifiers.mixing import add
from synaug.classifiers.recipes import recipes
from synaug.classifiers.train import load, save
from synaug.data import layouts, sources
from synaug.data.images import ImageSet, concat
from synaug.data.seen import _forbidden_pairs, check_leaks, check_unseen, image_hashes, seen
from synaug.data.splits import budget
from synaug.errors import ArmError
from synaug.partners import _synthetic, oracle_images
from synaug.store import cached
from synaug.study.file import _check_values, shipped
from synaug.classifiers.networks import CompactResNet
from synaug.classifiers.train import train
from synaug.errors import ScoreError
from synaug.evaluation import score_splits
from synaug.generators import pixel
from synaug.data.images import Dataset, concat
from synaug.data.seen import check_unseen, image_hashes
from synaug.data.splits import budget
from synaug.errors import BudgetError, LeakError
from synaug.arms import parse
from synaug.partners import partner
from synaug.data.simulate import simulate
from synaug.errors import SourceError
from synaug.errors import StudyError
from synaug.study.file import read_study

matplotlib.use('Agg')


# Mutations: a function of the package with one piece of its source replaced, in every module that knows it

def mutate(monkeypatch, function, old, new):
    "Put a copy of `function` in its place, here too, in which `old`, found exactly once in its source, is `new`"
    function = inspect.unwrap(getattr(function, '__func__', function))
    source = textwrap.dedent(inspect.getsource(function))
    assert source.count(old) == 1, f'{function.__qualname__} has changed: {old!r} occurs {source.count(old)} times in it'
    exec(compile(source.replace(old, new), f'<mutant of {function.__qualname__}>', 'exec'), function.__globals__, made := {})
    mutant, owner = made[function.__name__], function.__qualname__.rpartition('.')[0]
    if owner: monkeypatch.setattr(function.__globals__[owner], function.__name__, mutant)
    for module in [m for name, m in sys.modules.items() if name.partition('.')[0] == 'synaug' or name == __name__]:
        for name, value in list(vars(module).items()):
            if value is function: monkeypatch.setattr(module, name, mutant)


def refused(error, says, action):
    "Whether `action()` ends in this error; any other error is a fault of the test"
    try: action()
    except error as e: return says in str(e)
    return False


# The data that faults are planted in

DATA = simulate(seed=3, size=16, n_train=160, n_val=48, n_test=48, n_pool=30, n_shift=40)
SCORED = DATA.scored()


def with_image(s, other, i=0):
    "Image set `s` with the first image (not its group) of `other` in the place of its own"
    return replace(s, images=np.concatenate([other.images[i:i+1], s.images[1:]]))


def with_group(s, other):
    "Image set `s` with the group of another's first image in the place of its own"
    return replace(s, groups=np.concatenate([other.groups[:1], s.groups[1:]]))


class Brief(CompactResNet):
    "A small network for tests that counts the images it is trained on"
    trained_on = []
    def __init__(self, *a): super().__init__(*a, width=4)

    def features(self, x):
        if self.training: self.trained_on.append(len(x))
        return super().features(x)


def brief(real, partner=None, rule='add', updates=2, **k): return train(real, DATA.val, partner, rule, updates=updates, batch_size=8, looks=1, network=Brief, device='cpu', **k)


# Leaks between splits

def image_in_train_and_test(): return refused(LeakError, 'in both train and test', replace(DATA, test=with_image(DATA.test, DATA.train)).check)
def image_in_val_and_test(): return refused(LeakError, 'in both val and test', replace(DATA, test=with_image(DATA.test, DATA.val)).check)
def image_in_pool_and_test(): return refused(LeakError, 'in both pool and test', replace(DATA, pool=with_image(DATA.pool, DATA.test)).check)
def image_in_train_and_shift(): return refused(LeakError, 'in both train and microscope', replace(DATA, train=with_image(DATA.train, DATA.shifts['microscope'])).check)
def group_in_train_and_test(): return refused(LeakError, 'groups straddle train and test', replace(DATA, test=with_group(DATA.test, DATA.train)).check)


def leaky_file():
    "A file with a test image in train"
    with TemporaryDirectory() as folder:
        d = replace(DATA, test=with_image(DATA.test, DATA.train))
        np.savez(f'{folder}/cells.npz', task='multi-label', **{f'{n}_images': s.images for n, s in d.splits().items()}, **{f'{n}_labels': s.labels for n, s in d.scored().items()},
                 train_labels=d.train.labels)
        return refused(LeakError, 'in both train and test', lambda: sources.load(f'{folder}/cells.npz'))


# Generators and classifiers that saw what they are scored on

def generator_saw_a_test_image(): return refused(LeakError, 'images of test were fitted on', lambda: check_unseen(fitted(DATA.test[:1]).seen, **SCORED))


def generator_saw_a_group_member():
    "Another image of a group in test"
    scored = SCORED | dict(test=DATA.test[1:])
    return refused(LeakError, 'groups of test were fitted on', lambda: check_unseen(fitted(DATA.test[:1]).seen, **scored))


def fitted(extra=None, pool=None):
    "A real generator, on a few training images and `extra` ones"
    few = DATA.train[:12]
    return pixel.PixelGenerator.fit(few if extra is None else concat(few, extra), pool, steps=1, widths=(8,), batch_size=4, device='cpu', progress=False)


def scoring_after(synthetic_of):
    "Whether scoring a classifier is refused whose synthetic images are those of `synthetic_of(generator)`; the generator saw a test image"
    def action():
        synthetic = synthetic_of(fitted(DATA.test[:1]))
        score_splits(brief(DATA.train[:12], synthetic), SCORED)
    return refused(LeakError, 'images of test were fitted on', action)


def samples(generator): return generator.sample(DATA.train.labels[:12], steps=1, progress=False)
def classifier_of_leaky_samples(): return scoring_after(samples)
def classifier_of_selected_leaky_samples(): return scoring_after(lambda g: partner(parse('add'), DATA.train[:6], DATA.train, samples(g)))
def classifier_of_joined_leaky_samples(): return scoring_after(lambda g: concat(DATA.train[12:24], samples(g)))
def generator_fitted_on_a_test_image_as_pool():
    return refused(LeakError, 'images of test were fitted on', lambda: check_unseen(fitted(pool=DATA.test[:2].unlabelled()).seen, **SCORED))


def generator_read_from_disk():
    "The generator saw a test image before it was saved"
    def again(generator):
        with TemporaryDirectory() as folder:
            pixel.save(generator, folder)
            return samples(pixel.load(folder, 'cpu'))
    return scoring_after(again)


def classifier_read_from_disk():
    "The classifier was trained on a test image before it was saved"
    def action():
        with TemporaryDirectory() as folder:
            save(train(concat(DATA.train[:12], DATA.test[:1]), DATA.val, updates=1, batch_size=4, looks=1, device='cpu'), folder)
            score_splits(load(folder, 'cpu'), SCORED)
    return refused(LeakError, 'images of test were fitted on', action)


# Budgets, oracles, compute

def budget_beyond_a_class(): return refused(BudgetError, 'every class needs that many', lambda: budget(DATA.train, 100))


def oracle_is_new():
    "No oracle image was drawn, although the training set holds copies of drawn images"
    drawn = budget(DATA.train, 2)
    doubled = concat(DATA.train, drawn)
    return all(not np.isin(image_hashes(partner(parse(arm), drawn, doubled, seed=s).images), image_hashes(drawn.images)).any()
               for arm in ('oracle-300%', 'shuffled-labels') for s in range(5))


def oracle_beyond_the_training_set():
    return refused(BudgetError, 'are left', lambda: partner(parse('oracle-300%'), DATA.train[:60], DATA.train))


def more_synthetic_images_than_there_are():
    return refused(ArmError, 'needs 24 synthetic images', lambda: partner(parse('add-200%'), DATA.train[:12], DATA.train, DATA.train[12:20]))


def equal_updates():
    "Every arm trains on the same number of images in the same number of updates"
    drawn, extra, counts = DATA.train[:16], DATA.train[16:48], []
    for partner, rule in ((None, 'add'), (extra, 'add'), (extra, 'mix-loss'), (extra, 'mix-representation')):
        Brief.trained_on.clear()
        last = brief(drawn, partner, rule, updates=4).history['update'].max()
        counts.append((last, [*Brief.trained_on]))
    return counts == [(4, [8]*4)]*4


def same_first_weights():
    "Arms of one replicate start from the same weights: a learning rate of 0 shows them"
    first = [brief(DATA.train[:16], extra, recipe=replace(recipes['default'], lr=0., weight_decay=0.)).model.head.weight for extra in (None, DATA.train[16:48])]
    return torch.equal(*first)


# Studies and ledgers

def baseline_missing(): return refused(StudyError, 'the baseline real is not among the arms', lambda: read_study('your-images', ['arms=duplicate,add']))
def unknown_arm(): return refused(ArmError, 'does not exist', lambda: read_study('your-images', ['arms=real,ad']))


def cache_of_other_data():
    "A step kept for one data set is not used for another"
    save, load = lambda made, folder: (folder/'made').write_text(made), lambda folder: (folder/'made').read_text()
    with TemporaryDirectory() as cache:
        return [cached(cache, 'generator', dict(data=d), lambda: d, save, load) for d in ('a', 'b', 'a')] == ['a', 'b', 'a']


def diverged_classifier():
    "NaN probabilities are never scored as 0 or skipped"
    labels, probs = np.eye(3), np.full((3, 3), .3)
    probs[1, 1] = np.nan
    return refused(ScoreError, 'diverged', lambda: evaluation._check_scorable(labels, probs, range(3)))


class Payload:
    "Unpickling an object of this class makes a folder"
    def __init__(self, mark): self.mark = mark
    def __reduce__(self): return Path.mkdir, (Path(self.mark),)


def pickle_in_a_source():
    "Labels that are pickled objects: refused, and not unpickled"
    with TemporaryDirectory() as folder:
        mark, objects = Path(folder)/'unpickled', np.empty(4, object)
        objects[:] = [Payload(str(mark)), 0, 1, 1]
        np.savez(f'{folder}/cells.npz', train_images=DATA.train.images[:4], train_labels=objects)
        try: sources.load(f'{folder}/cells.npz')
        except Exception as e: return isinstance(e, SourceError) and 'not a readable npz of plain arrays' in str(e) and not mark.exists()
        return False


# guard -> the fault, and the mutants of the package that let it through: (function, piece of its source, replacement)

OFF = 'if False:'
LEAKS, UNSEEN = check_leaks, check_unseen
GUARDS = [
    (image_in_train_and_test, [(LEAKS, 'if len(same):', OFF), (Dataset.check, 'check_leaks(self)', 'pass'), (image_hashes, 'for im in images', 'for im in np.random.default_rng().random((len(images), 8))')]),
    (image_in_val_and_test, [(LEAKS, 'if len(same):', OFF), (_forbidden_pairs, "+ [('val', s) for s in scored if s != 'val']", '')]),
    (image_in_pool_and_test, [(_forbidden_pairs, "['pool'] if d.pool is not None else []", '[]')]),
    (image_in_train_and_shift, [(_forbidden_pairs, 'list(d.scored())', "['val', 'test']")]),
    (group_in_train_and_test, [(LEAKS, 'if len(shared):', OFF)]),
    (leaky_file, [(sources.load, '_checked(d, found, size, cache) if check else d', 'd')]),
    (generator_saw_a_test_image, [(UNSEEN, 'if len(same):', OFF)]),
    (generator_saw_a_group_member, [(UNSEEN, 'if shared:', OFF)]),
    (generator_fitted_on_a_test_image_as_pool, [(pixel.PixelGenerator.fit, 'seen(train) if pool is None else seen(train, pool)', 'seen(train)')]),
    (classifier_of_leaky_samples, [(score_splits, 'check_unseen(classifier.seen, **splits)', 'pass'), (train, 'seen(*[s for s in (real, partner) if s is not None])', 'seen(real)'),
                                   (pixel.PixelGenerator.sample, ', origin=self.seen', ''), (seen, 'if s.origin is not None', 'if False')]),
    (classifier_of_selected_leaky_samples, [(ImageSet.__getitem__, 'groups=pick(self.groups)', 'groups=pick(self.groups), origin=None')]),
    (classifier_of_joined_leaky_samples, [(concat, 'origin=Seen().union(*origins) if origins else None', 'origin=None')]),
    (generator_read_from_disk, [(pixel.load, "Seen(*(frozenset(s['seen'][k]) for k in ('hashes', 'groups')))", 'Seen()')]),
    (classifier_read_from_disk, [(load, "Seen(*(frozenset(facts['seen'][k]) for k in ('hashes', 'groups')))", 'Seen()')]),
    (budget_beyond_a_class, [(budget, 'if labels_per_class < 1 or short:', OFF)]),
    (oracle_is_new, [(oracle_images, '~np.isin(image_hashes(train.images), image_hashes(drawn.images))', 'np.ones(len(train), bool)')]),
    (oracle_beyond_the_training_set, [(oracle_images, 'if len(rest) < n:', OFF)]),
    (more_synthetic_images_than_there_are, [(_synthetic, 'if synthetic is None or len(synthetic) < n:', OFF)]),
    (equal_updates, [(train, 'range(1, updates+1)', 'range(1, updates + 1 + 2*(partner is not None))'), (add, 'real(n-k)', 'real(n)')]),
    (same_first_weights, [(train, 'first_weights(network, real, seed, start)', 'first_weights(network, real, seed + (partner is not None), start)')]),
    (baseline_missing, [(_check_values, 'if study.baseline not in arms:', OFF)]),
    (unknown_arm, [(_check_values, 'for arm in arms: parse(arm)', 'pass')]),
    (cache_of_other_data, [(cached, '_hash(identity, ', '_hash(')]),
    (diverged_classifier, [(evaluation._check_scorable, 'if bad.any():', OFF)]),
    (pickle_in_a_source, [(layouts._arrays, 'allow_pickle=False', 'allow_pickle=True')])]

MUTANTS = [(guarded, *mutant) for guarded, mutants in GUARDS for mutant in mutants]


@pytest.mark.parametrize('guarded', [g for g, _ in GUARDS], ids=lambda g: g.__name__)
def test_the_fault_is_refused(guarded): assert guarded()


@pytest.mark.parametrize('guarded, function, old, new', MUTANTS, ids=[f'{g.__name__}-{f.__qualname__}' for g, f, *_ in MUTANTS])
def test_without_its_guard_the_fault_gets_through(monkeypatch, guarded, function, old, new):
    mutate(monkeypatch, function, old, new)
    assert not guarded()


# Nothing in the package can read a pickle at all

UNPICKLING = r'allow_pickle\s*=\s*True|\bpickle\.|\bjoblib\b|torch\.load\(|import (?:pickle|dill|cloudpickle)\b|read_pickle|weights_only\s*=\s*False'


def unpickling(folder): return [f'{p.name}: {line.strip()}' for p in sorted(Path(folder).rglob('*.py')) for line in p.read_text(encoding='utf-8').splitlines() if re.search(UNPICKLING, line)]


def test_the_package_cannot_unpickle(): assert unpickling(Path(__file__).parent) == []


@pytest.mark.parametrize('line', ['np.load(f, allow_pickle=True)', 'import pickle', 'pd.read_pickle(f)', 'torch.load(f)'])
def test_unpickling_code_is_found(tmp_path, line):
    (tmp_path/'module.py').write_text(f'x = 1\n{line}\n')
    assert len(unpickling(tmp_path)) == 1


# The shipped experiment: what it fits and chooses depends on nothing that it must not see

TINY = dict(labels_per_class=3, generator_steps=2, sampling_steps=1, updates=5, batch_size=8, examiner_updates=5, pool_updates=2, arms=['real', 'add'])


@lru_cache(maxsize=4)
def experiment(path, old='', new='', mutant=''):
    "Run the code of the shipped experiment notebook, with one piece replaced (or a `mutant` of the package in place), in this process and without its pictures; its names"
    cells = json.loads((shipped('experiments')/'your_images.ipynb').read_text(encoding='utf-8'))['cells']
    code = [''.join(c['source']) for c in cells if c['cell_type'] == 'code']
    assert not old or ''.join(code).count(old) == 1, f'the experiment has changed: {old!r} occurs {"".join(code).count(old)} times in it'
    names = {}
    with config_context(skip_parameter_validation=True), patch('synaug.plots.sheets.real_and_synthetic'), patch('synaug.plots.sheets.show'), patch('synaug.plots.audits.pairs_figure'), patch('matplotlib.pyplot.subplots', return_value=(Mock(), Mock())):
        for cell in code:
            exec(cell.replace(old, new) if old else cell, names)
            if 'import os' not in ''.join(code[:code.index(cell)]): names.update(TINY | dict(source=str(path)))
    return names


def fitted_and_chosen(run, examiner=True):
    "Everything that was fitted, and the scores on validation, which show checkpoints and thresholds"
    weights = {f'generator {k}': v for k, v in run['generator'].net.state_dict().items()}
    if examiner: weights |= {f'examiner {k}': v for k, v in run['examiner'].model.state_dict().items()}
    on_val = run['trial'].rows[run['trial'].rows.split == 'val']
    return ({k: v.numpy().tobytes() for k, v in weights.items()} | dict(scaling=run['generator'].scaling.mean.tobytes(), thresholds=b''.join(t.tobytes() for t in run['trial'].thresholds.values()))
            | {f'{arm} {metric}': value for arm, metric, value in zip(on_val.arm, on_val.metric, on_val.value)})


def poisoned(s, seed=0):
    "The same groups, but other pixels and other labels"
    rng = np.random.default_rng(seed)
    return replace(s, images=rng.integers(0, 256, s.images.shape, dtype=np.uint8), labels=s.labels[rng.permutation(len(s))])


@pytest.fixture(scope='module')
def write(tmp_path_factory):
    def to_file(data):
        path = tmp_path_factory.mktemp('cells')/'cells.npz'
        sets = data.splits()
        np.savez(path, **{f'{n}_images': s.images for n, s in sets.items()}, **{f'{n}_labels': s.labels for n, s in sets.items() if s.labels is not None},
                 **{f'{n}_groups': s.groups for n, s in sets.items()}, class_names=np.array(data.train.classes), task='multi-label')
        return path
    return to_file


@pytest.fixture(scope='module')
def clean(write): return write(DATA)


@pytest.fixture(scope='module')
def poisoned_test(write): return write(replace(DATA, test=poisoned(DATA.test), shifts={k: poisoned(s) for k, s in DATA.shifts.items()}))


def depends_on(clean, other, old='', new='', mutant='', **k):
    "What an experiment fits or chooses differently on the images in another file; `old` and `new` change its code, `mutant` names a change to the package"
    before, after = (fitted_and_chosen(experiment(path, old, new, mutant), **k) for path in (clean, other))
    assert before.keys() == after.keys()
    return {name for name in before if before[name] != after[name]}


def test_nothing_depends_on_the_test_set(clean, poisoned_test): assert depends_on(clean, poisoned_test) == set()


def leaky(monkeypatch, clean, other, function, old, new, **k):
    "What depends on the other file once the experiment (`function` None) or a function of the package is changed"
    if function is None: return depends_on(clean, other, old, new, **k)
    mutate(monkeypatch, function, old, new)
    return depends_on(clean, other, mutant=new, **k)


ARMS = 'classifiers.train(drawn, data.val, extra'
@pytest.mark.parametrize('function, old, new, leaks', [
    (trial.run_arms, "choose_thresholds(data.val.labels, probs[arm.name]['val'])", "choose_thresholds(data.test.labels, probs[arm.name]['test'])", ('thresholds',)),
    (trial.run_arms, ARMS, ARMS.replace('val', 'test'), ('real ', 'add ')),
    (None, 'classifiers.train(data.train, data.val, updates=examiner', 'classifiers.train(data.train, data.test, updates=examiner', ('examiner ',))],
    ids=['thresholds', 'early stopping', 'examiner'])
def test_a_leaky_experiment_is_found(monkeypatch, clean, poisoned_test, function, old, new, leaks):
    assert any(name.startswith(leaks) for name in leaky(monkeypatch, clean, poisoned_test, function, old, new))


@pytest.fixture(scope='module')
def rest_poisoned(write):
    "Other pixels in every training image that the experiment does not draw"
    drawn = image_hashes(budget(DATA.train, TINY['labels_per_class'], seed=0).images)
    new = poisoned(DATA.train).images
    keep = np.isin(image_hashes(DATA.train.images), drawn)
    return write(replace(DATA, train=replace(DATA.train, images=np.where(keep[:, None, None, None], DATA.train.images, new))))


def test_nothing_but_the_examiner_depends_on_more_than_the_budget(clean, rest_poisoned):
    assert depends_on(clean, rest_poisoned, examiner=False) == set()
    assert any(name.startswith('examiner') for name in depends_on(clean, rest_poisoned))


@pytest.mark.parametrize('function, old, new, leaks', [
    (None, 'PixelGenerator.fit(drawn, pool', 'PixelGenerator.fit(data.train, pool', ('scaling', 'generator ')),
    (trial.run_arms, ARMS, ARMS.replace('drawn', 'data.train'), ('real ', 'add ')),
    (None, 'trial = run_arms(', 'import unittest.mock as m; trial = m.patch.object(classifiers, "train", lambda *a, **k: examiner)(run_arms)(', ('real ', 'add '))],
    ids=['generator', 'classifier', 'examiner as an arm'])
def test_an_experiment_beyond_its_budget_is_found(monkeypatch, clean, rest_poisoned, function, old, new, leaks):
    assert any(name.startswith(leaks) for name in leaky(monkeypatch, clean, rest_poisoned, function, old, new, examiner=False))
