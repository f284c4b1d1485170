"""Every guard refuses a planted fault; and with the guard switched off in the real code, the same fault gets through.

The second half is what makes the first one worth something: whoever removes a guard breaks a test.
"""
import ast
import inspect
import json
import re
import sys
import textwrap
from contextlib import ExitStack
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import Mock, patch

import matplotlib
import numpy as np
import pandas as pd
import pytest
import synaug
import torch
from sklearn import config_context
from synaug import evaluation, partners, replicate
from synaug.arms import parse
from synaug.classifiers import recipes, train as training
from synaug.classifiers.mixing import add
from synaug.classifiers.networks import CompactResNet
from synaug.classifiers.train import train
from synaug.data import npz, seen as seeing, sources
from synaug.data.images import Dataset, ImageSet, concat
from synaug.data.seen import check_leaks, check_unseen, image_hashes, seen
from synaug.data.simulate import simulate
from synaug.data.splits import budget
from synaug.errors import ArmError, BudgetError, LabelError, LeakError, ScoreError, SourceError, StudyError
from synaug.evaluation import score_splits
from synaug.generators import pixel
from synaug.partners import oracle_images, partner
from synaug.store import cached
from synaug.study import checks, ledger
from synaug.study.file import read_study, shipped

matplotlib.use('Agg')


# Mutations: a function of the package with one piece of its syntax tree replaced, in every module that knows it.
# A piece is found by its meaning, not by its spelling: line breaks, quotes and comments are free to change.

def expression(code): return ast.parse(code, mode='eval').body


class Swap(ast.NodeTransformer):
    "Replaces every expression equal to `old` by `new`; `where`: only in these fields, as the 'test' of an if"
    def __init__(self, old, new, where=()):
        self.old, self.new, self.where, self.found = ast.dump(expression(old)), new, where, 0

    def generic_visit(self, node):
        for name, value in ast.iter_fields(node):
            if self.where and name not in self.where: continue
            if isinstance(value, list): value[:] = [self.swapped(v) for v in value]
            elif isinstance(value, ast.AST): setattr(node, name, self.swapped(value))
        for child in ast.iter_child_nodes(node):
            if not getattr(child, 'is_new', False): self.visit(child)
        return node

    def swapped(self, node):
        if not isinstance(node, ast.expr) or ast.dump(node) != self.old: return node
        self.found += 1
        new = expression(self.new)
        new.is_new = True
        return new


def mutated(tree, old, new, where=()):
    "How often `old` was found in the syntax tree, now replaced"
    swap = Swap(old, new, where)
    swap.visit(tree)
    return swap.found


CONDITIONS = 'test', 'ifs'


def never(condition): return dict(old=condition, new='False', where=CONDITIONS)
def instead(old, new): return dict(old=old, new=new)
def over(iterable, new): return dict(old=iterable, new=new, where=('iter',))


def unpatched(decorator):
    "`classmethod` in place of fastcore's `patch(cls_method=True)`, which would stay in the class"
    return expression('classmethod') if ast.unparse(decorator) == 'patch(cls_method=True)' else decorator


def mutate(monkeypatch, function, change):
    "Put a copy of `function` in its place, here too, with a `change` to a piece that is found exactly once"
    function = inspect.unwrap(getattr(function, '__func__', function))
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    definition, = tree.body
    definition.decorator_list = [unpatched(d) for d in definition.decorator_list if ast.unparse(d) != 'patch']
    found = mutated(tree, **change)
    assert found == 1, f"{function.__qualname__} has changed: {change['old']!r} occurs {found} times in it"
    code = compile(ast.fix_missing_locations(tree), f'<mutant of {function.__qualname__}>', 'exec')
    exec(code, function.__globals__, made := {})
    mutant, owner = made[function.__name__], function.__qualname__.rpartition('.')[0]
    if owner: monkeypatch.setattr(function.__globals__[owner], function.__name__, mutant)
    for module in [m for name, m in sys.modules.items() if name.partition('.')[0] == 'synaug' or name == __name__]:
        for name, value in list(vars(module).items()):
            if value is function: monkeypatch.setattr(module, name, mutant)


@pytest.mark.parametrize('code, change, found, after', [
    ('if len(same):\n    print(len(same))', never('len(same)'), 1, 'if False:\n    print(len(same))'),
    ('x = [f(i)\n     for i in images if i]', over('images', '()'), 1, 'x = [f(i) for i in () if i]'),
    ('f(a,  # why\n  key="b")', instead("'b'", 'None'), 1, 'f(a, key=None)'),
    ('f(a) + f(a)', instead('f(a)', '0'), 2, '0 + 0'),
    ('f(b)', instead('f(a)', '0'), 0, 'f(b)')])
def test_a_piece_is_found_by_its_syntax(code, change, found, after):
    tree = ast.parse(code)
    assert mutated(tree, **change) == found and ast.dump(tree) == ast.dump(ast.parse(after))


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


def brief(real, partner=None, rule='add', updates=2, **k):
    "A training of a few updates"
    k = dict(updates=updates, batch_size=8, looks=1, network=Brief, device='cpu') | k
    return train(real, DATA.val, partner, rule, **k)


# Leaks between splits

def leaks(says, **splits): return refused(LeakError, says, replace(DATA, **splits).check)
def image_in_train_and_test(): return leaks('in both train and test', test=with_image(DATA.test, DATA.train))
def image_in_val_and_test(): return leaks('in both val and test', test=with_image(DATA.test, DATA.val))
def image_in_pool_and_test(): return leaks('in both pool and test', pool=with_image(DATA.pool, DATA.test))
def group_in_train_and_test(): return leaks('groups straddle train and test', test=with_group(DATA.test, DATA.train))


def image_in_train_and_shift():
    return leaks('in both train and microscope', train=with_image(DATA.train, DATA.shifts['microscope']))


def leaky_file():
    "A file with a test image in train"
    with TemporaryDirectory() as folder:
        d = replace(DATA, test=with_image(DATA.test, DATA.train))
        images = {f'{n}_images': s.images for n, s in d.splits().items()}
        labels = {f'{n}_labels': s.labels for n, s in d.scored().items()}
        np.savez(f'{folder}/cells.npz', task='multi-label', train_labels=d.train.labels, **images, **labels)
        return refused(LeakError, 'in both train and test', lambda: sources.load(f'{folder}/cells.npz'))


# Generators and classifiers that saw what they are scored on

def generator_saw_a_test_image():
    says = 'images of test were fitted on'
    return refused(LeakError, says, lambda: check_unseen(fitted(DATA.test[:1]).seen, **SCORED))


def generator_saw_a_group_member():
    "Another image of a group in test"
    scored = SCORED | dict(test=DATA.test[1:])
    says = 'groups of test were fitted on'
    return refused(LeakError, says, lambda: check_unseen(fitted(DATA.test[:1]).seen, **scored))


def fitted(extra=None, pool=None):
    "A real generator, on a few training images and `extra` ones"
    few = DATA.train[:12]
    if extra is not None: few = concat(few, extra)
    tiny = dict(steps=1, widths=(8,), batch_size=4, device='cpu', progress=False)
    return pixel.PixelGenerator.fit(few, pool, **tiny)


def scoring_after(synthetic_of):
    "Whether a classifier with the images `synthetic_of(generator)` is not scored; the generator saw a test image"
    def action():
        synthetic = synthetic_of(fitted(DATA.test[:1]))
        score_splits(brief(DATA.train[:12], synthetic), SCORED)
    return refused(LeakError, 'images of test were fitted on', action)


def samples(generator, **settings):
    return generator.sample(DATA.train.labels[:12], steps=1, progress=False, **settings)


def classifier_of_leaky_samples(): return scoring_after(samples)
def classifier_of_joined_leaky_samples(): return scoring_after(lambda g: concat(DATA.train[12:24], samples(g)))


def refused_samples(**settings):
    "Whether a classifier with samples of a generator that saw nothing wrong is not scored, for what they came from"
    extra = samples(fitted(), **settings)
    return refused(LeakError, 'images of test were fitted on',
                   lambda: score_splits(brief(DATA.train[:12], extra), SCORED))


def learnt_from_test_images():
    "What `learn` gives of training images and a test image, their labels hidden"
    tiny = dict(steps=1, widths=(8,), batch_size=4, device='cpu', progress=False)
    hidden = concat(DATA.train[:12], DATA.test[:1]).unlabelled()
    return pixel.PixelGenerator.learn(hidden, DATA.train.classes, DATA.train.task, **tiny)


def classifier_of_edited_test_images(): return refused_samples(edit=(DATA.test[:12], .5))


def generator_that_started_from_a_test_image():
    start = learnt_from_test_images()
    tiny = dict(steps=1, batch_size=4, device='cpu', progress=False)
    made = pixel.PixelGenerator.fit(DATA.train[:12], start=start, **tiny)
    return refused(LeakError, 'images of test were fitted on', lambda: check_unseen(made.seen, **SCORED))


def classifier_of_samples_led_away_from_a_test_image():
    start = learnt_from_test_images()
    tiny = dict(steps=1, batch_size=4, device='cpu', progress=False)
    made = pixel.PixelGenerator.fit(DATA.train[:12], start=start, **tiny)
    clean = replace(made, seen=seen(DATA.train[:12]))
    extra = samples(clean, guidance=2, weak=start)
    return refused(LeakError, 'images of test were fitted on',
                   lambda: score_splits(brief(DATA.train[:12], extra), SCORED))


def classifier_of_selected_leaky_samples():
    return scoring_after(lambda g: partner(parse('add'), DATA.train[:6], DATA.train, samples(g)))


def generator_fitted_on_a_test_image_as_pool():
    pool, says = DATA.test[:2].unlabelled(), 'images of test were fitted on'
    return refused(LeakError, says, lambda: check_unseen(fitted(pool=pool).seen, **SCORED))


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
            leaky = concat(DATA.train[:12], DATA.test[:1])
            training.save(train(leaky, DATA.val, updates=1, batch_size=4, looks=1, device='cpu'), folder)
            score_splits(training.load(folder, 'cpu'), SCORED)
    return refused(LeakError, 'images of test were fitted on', action)


# Budgets, oracles, compute

def budget_beyond_a_class(): return refused(BudgetError, 'every class needs that many', lambda: budget(DATA.train, 100))


def oracle_is_new():
    "No oracle image was drawn, although the training set holds copies of drawn images"
    drawn = budget(DATA.train, 2)
    doubled = concat(DATA.train, drawn)
    known = image_hashes(drawn.images)
    def is_new(arm, seed):
        extra = partner(parse(arm), drawn, doubled, seed=seed)
        return not np.isin(image_hashes(extra.images), known).any()
    return all(is_new(arm, seed) for arm in ('oracle-300%', 'shuffled-labels') for seed in range(5))


def oracle_beyond_the_training_set():
    return refused(BudgetError, 'are left', lambda: partner(parse('oracle-300%'), DATA.train[:60], DATA.train))


def more_synthetic_images_than_there_are():
    drawn, synthetic, says = DATA.train[:12], DATA.train[12:20], 'needs 24 synthetic images'
    return refused(ArmError, says, lambda: partner(parse('add-200%'), drawn, DATA.train, synthetic))


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
    still = replace(recipes.recipes['default'], lr=0., muon_lr=0., weight_decay=0.)
    trained = [brief(DATA.train[:16], extra, recipe=still) for extra in (None, DATA.train[16:48])]
    return torch.equal(*(t.model.head.weight for t in trained))


# Studies and ledgers

def baseline_missing():
    says = 'the baseline real is not among the arms'
    return refused(StudyError, says, lambda: read_study('quick', ['arms=duplicate,add']))


def unknown_arm():
    return refused(ArmError, 'does not exist', lambda: checks.check_arms(['real', 'ad'], 'real', {'unet'}))


def cache_of_other_data():
    "A step kept for one data set is not used for another"
    save, load = lambda made, folder: (folder/'made').write_text(made), lambda folder: (folder/'made').read_text()
    with TemporaryDirectory() as cache:
        made = [cached(cache, 'generator', dict(data=d), lambda: d, save, load) for d in ('a', 'b', 'a')]
        return made == ['a', 'b', 'a']


def pool_of_another_split():
    "What learnt the pool of one replicate, which holds test images of another, is not scored there"
    whole = replace(DATA, pool=None, shifts={}, unsplit=dict(train=concat(DATA.train, DATA.val, DATA.test)))
    first, second = (sources.redrawn(whole, seed) for seed in (0, 1))
    return refused(LeakError, 'images of', lambda: check_unseen(seen(first.train.unlabelled()), **second.scored()))


def class_too_rare_to_split():
    labels = DATA.train.labels.copy()
    labels[3:, 0] = 0
    whole = replace(DATA, unsplit=dict(train=replace(DATA.train, labels=labels)))
    return refused(LabelError, 'repeated splits need', lambda: sources.redrawn(whole))


def ledger_of_two_data_sets():
    rows = pd.DataFrame(dict(arm='real', fingerprint=['a', 'b']))
    return refused(StudyError, 'different images', lambda: ledger._check_one_data_set('out', rows, []))


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
        except SourceError as e: return 'not a readable npz of plain arrays' in str(e) and not mark.exists()
        except Exception: return False
        return False


# guard -> the fault, and the mutants of the package that let it through: (function, change)

SEEN_OF = "Seen.from_json({}['seen'])"
GUARDS = [
    (image_in_train_and_test, [
        (check_leaks, never('len(same)')),
        (Dataset.check, instead('check_leaks(self)', 'None')),
        (image_hashes, over('images', 'np.random.default_rng().random((len(images), 8))'))]),
    (image_in_val_and_test, [
        (check_leaks, never('len(same)')),
        (seeing.disjoint_pairs, instead("[('val', s) for s in scored if s != 'val']", '[]'))]),
    (image_in_pool_and_test, [(seeing.disjoint_pairs, instead("['pool'] if d.pool is not None else []", '[]'))]),
    (image_in_train_and_shift, [(seeing.disjoint_pairs, instead('list(d.scored())', "['val', 'test']"))]),
    (group_in_train_and_test, [(check_leaks, never('len(shared)'))]),
    (leaky_file, [(sources.load, instead('_checked(d, found, size, cache) if check else d', 'd'))]),
    (generator_saw_a_test_image, [(check_unseen, never('len(same)'))]),
    (generator_saw_a_group_member, [(check_unseen, never('shared'))]),
    (generator_fitted_on_a_test_image_as_pool, [
        (pixel.PixelGenerator.fit, instead('seen(train) if pool is None else seen(train, pool)', 'seen(train)'))]),
    (classifier_of_leaky_samples, [
        (score_splits, instead('check_unseen(classifier.seen, **splits)', 'None')),
        (train, instead('seen(*[s for s in (real, partner) if s is not None])', 'seen(real)')),
        (pixel.known_to, instead('generator.seen', 'Seen()')),
        (seeing.seen, never('s.origin is not None'))]),
    (generator_that_started_from_a_test_image, [
        (pixel.PixelGenerator.fit, instead('fitted_on.union(start.seen)', 'fitted_on'))]),
    (classifier_of_edited_test_images, [(pixel.known_to, instead('known.union(seen(edit[0]))', 'known'))]),
    (classifier_of_samples_led_away_from_a_test_image, [
        (pixel.known_to, instead('known.union(weak.seen)', 'known'))]),
    (classifier_of_selected_leaky_samples, [
        (ImageSet.__getitem__, instead('replace', 'lambda s, **fields: replace(s, **fields, origin=None)'))]),
    (classifier_of_joined_leaky_samples, [(concat, instead('Seen().union(*origins) if origins else None', 'None'))]),
    (generator_read_from_disk, [(pixel.load, instead(SEEN_OF.format('s'), 'Seen()'))]),
    (classifier_read_from_disk, [(training.load, instead(SEEN_OF.format('facts'), 'Seen()'))]),
    (budget_beyond_a_class, [(budget, never('len(short) > 0'))]),
    (oracle_is_new, [
        (oracle_images, instead('~np.isin(image_hashes(train.images), image_hashes(drawn.images))',
                                'np.ones(len(train), bool)'))]),
    (oracle_beyond_the_training_set, [(oracle_images, never('len(rest) < n'))]),
    (more_synthetic_images_than_there_are, [(partners._synthetic, never('synthetic is None or len(synthetic) < n'))]),
    (equal_updates, [
        (train, dict(old='round(arm.length*updates)', new='round(arm.length*updates) + 2*(partner is not None)')),
        (add, instead('real(n-k)', 'real(n)'))]),
    (same_first_weights, [
        (train, instead('first_weights(network, real, seed, start)',
                        'first_weights(network, real, seed + (partner is not None), start)'))]),
    (baseline_missing, [(checks.check_arms, never('baseline not in names'))]),
    (unknown_arm, [(checks.check_arms, instead('parse(name)', "parse('real')"))]),
    (pool_of_another_split, [(check_unseen, never('len(same)'))]),
    (class_too_rare_to_split, [(sources.redrawn, never('len(few) > 0'))]),
    (ledger_of_two_data_sets, [(ledger._check_one_data_set, never('len(found) > 1'))]),
    (cache_of_other_data, [(cached, instead('identity', '0'))]),
    (diverged_classifier, [(evaluation._check_scorable, never('bad.any()'))]),
    (pickle_in_a_source, [(npz._arrays, instead('False', 'True'))])]

MUTANTS = [(guarded, *mutant) for guarded, mutants in GUARDS for mutant in mutants]


@pytest.mark.parametrize('guarded', [g for g, _ in GUARDS], ids=lambda g: g.__name__)
def test_the_fault_is_refused(guarded): assert guarded()


@pytest.mark.parametrize('guarded, function, change', MUTANTS,
                         ids=[f'{g.__name__}-{f.__qualname__}' for g, f, *_ in MUTANTS])
def test_without_its_guard_the_fault_gets_through(monkeypatch, guarded, function, change):
    mutate(monkeypatch, function, change)
    assert not guarded()


# Nothing in the package can read a pickle at all

UNPICKLING = re.compile('|'.join([
    r'allow_pickle\s*=\s*True', r'weights_only\s*=\s*False', r'torch\.load\((?!.*weights_only=True)', r'read_pickle',
    r'\bpickle\.', r'(?<!\.)\bjoblib\b(?! import cpu_count\b)', r'import (?:pickle|dill|cloudpickle)\b']))


def unpickling(folder):
    "Lines of a folder's modules that could read a pickle"
    for file in sorted(Path(folder).rglob('*.py')):
        for line in file.read_text(encoding='utf-8').splitlines():
            if UNPICKLING.search(line): yield f'{file.name}: {line.strip()}'


def test_the_package_cannot_unpickle(): assert list(unpickling(Path(synaug.__file__).parent)) == []


DANGEROUS = (
    'np.load(f, allow_pickle=True)', 'import pickle', 'pd.read_pickle(f)', 'torch.load(f)', 'from joblib import load',
    'joblib.load(f)')


@pytest.mark.parametrize('line', DANGEROUS)
def test_unpickling_code_is_found(tmp_path, line):
    (tmp_path/'module.py').write_text(f'x = 1\n{line}\n')
    assert len(list(unpickling(tmp_path))) == 1


# The shipped experiment: what it fits and chooses depends on nothing that it must not see

TINY = dict(labels_per_class=3, generator_steps=2, sampling_steps=1, updates=5, batch_size=8, examiner_updates=5,
            pool_updates=2, arms=['real', 'add'])
PICTURES = ('synaug.plots.sheets.real_and_synthetic', 'synaug.plots.sheets.show', 'synaug.plots.audits.pairs_figure')


def is_setting(cell): return 'parameters' in cell['metadata'].get('tags', [])


@lru_cache(maxsize=4)
def experiment(path, old='', new='', mutant=''):
    """The names that the code of the shipped experiment notebook leaves, run in this process and without its pictures;
    one expression is replaced, or a `mutant` of the package is in place"""
    notebook = json.loads((shipped('experiments')/'your_images.ipynb').read_text(encoding='utf-8'))
    code = [cell for cell in notebook['cells'] if cell['cell_type'] == 'code']
    trees = [ast.parse(''.join(cell['source'])) for cell in code]
    found = sum(mutated(tree, old, new) for tree in trees) if old else 1
    assert found == 1, f'the experiment has changed: {old!r} occurs {found} times in it'
    names = {}
    with ExitStack() as without:
        without.enter_context(config_context(skip_parameter_validation=True))
        without.enter_context(patch('matplotlib.pyplot.subplots', return_value=(Mock(), Mock())))
        for picture in PICTURES: without.enter_context(patch(picture))
        for cell, tree in zip(code, trees):
            exec(compile(ast.fix_missing_locations(tree), 'your_images', 'exec'), names)
            if is_setting(cell): names.update(TINY | dict(source=str(path)))
    return names


def fitted_and_chosen(run, examiner=True):
    "Everything that was fitted, and the scores on validation, which show checkpoints and thresholds"
    weights = {f'generator {k}': v for k, v in run['fitted']['unet'].net.state_dict().items()}
    if examiner: weights |= {f'examiner {k}': v for k, v in run['examiner'].model.state_dict().items()}
    found = {k: v.numpy().tobytes() for k, v in weights.items()}
    found['scaling'] = run['fitted']['unet'].scaling.mean.tobytes()
    scored = run['scored']
    found['thresholds'] = b''.join(t.tobytes() for t in scored.thresholds.values())
    on_val = scored.rows[scored.rows.split == 'val']
    return found | {f'{row.arm} {row.metric}': row.value for row in on_val.itertuples()}


def poisoned(s, seed=0):
    "The same groups, but other pixels and other labels"
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, s.images.shape, dtype=np.uint8)
    return replace(s, images=images, labels=s.labels[rng.permutation(len(s))])


@pytest.fixture(scope='module')
def write(tmp_path_factory):
    def to_file(data):
        path = tmp_path_factory.mktemp('cells')/'cells.npz'
        sets = data.splits()
        arrays = dict(class_names=np.array(data.train.classes), task='multi-label')
        for name, s in sets.items():
            arrays |= {f'{name}_images': s.images, f'{name}_groups': s.groups}
            if s.labels is not None: arrays[f'{name}_labels'] = s.labels
        np.savez(path, **arrays)
        return path
    return to_file


@pytest.fixture(scope='module')
def clean(write): return write(DATA)


@pytest.fixture(scope='module')
def poisoned_test(write):
    shifts = {k: poisoned(s) for k, s in DATA.shifts.items()}
    return write(replace(DATA, test=poisoned(DATA.test), shifts=shifts))


def depends_on(clean, other, old='', new='', mutant='', **k):
    """What an experiment fits or chooses differently on the images in another file; `old` and `new` change its code,
    `mutant` names a change to the package"""
    before, after = (fitted_and_chosen(experiment(path, old, new, mutant), **k) for path in (clean, other))
    assert before.keys() == after.keys()
    return {name for name in before if before[name] != after[name]}


def test_nothing_depends_on_the_test_set(clean, poisoned_test): assert depends_on(clean, poisoned_test) == set()


def leaky(monkeypatch, clean, other, function, change, **k):
    "What depends on the other file once the experiment (`function` None) or a function of the package is changed"
    if function is None: return depends_on(clean, other, **change, **k)
    mutate(monkeypatch, function, change)
    return depends_on(clean, other, mutant=change['new'], **k)


EXAMINED = "run.keep('examiner', train, data.train, {}, seed=0, updates=examiner_updates)"


@pytest.mark.parametrize('function, change, leaks', [
    (replicate.run_arms, instead("choose_thresholds(data.val.labels, said['val'])",
                                 "choose_thresholds(data.test.labels, said['test'])"), ('thresholds',)),
    (replicate.run_arms, instead('train', 'lambda drawn, val, *a, **k: train(drawn, data.test, *a, **k)'),
     ('real ', 'add ')),
    (None, instead(EXAMINED.format('data.val'), EXAMINED.format('data.test')), ('examiner ',))],
    ids=['thresholds', 'early stopping', 'examiner'])
def test_a_leaky_experiment_is_found(monkeypatch, clean, poisoned_test, function, change, leaks):
    assert any(name.startswith(leaks) for name in leaky(monkeypatch, clean, poisoned_test, function, change))


@pytest.fixture(scope='module')
def rest_poisoned(write):
    "Other pixels in every training image that the experiment does not draw"
    drawn = image_hashes(budget(DATA.train, TINY['labels_per_class'], seed=0).images)
    new = poisoned(DATA.train).images
    keep = np.isin(image_hashes(DATA.train.images), drawn)
    images = np.where(keep[:, None, None, None], DATA.train.images, new)
    return write(replace(DATA, train=replace(DATA.train, images=images)))


def test_nothing_but_the_examiner_depends_on_more_than_the_budget(clean, rest_poisoned):
    assert depends_on(clean, rest_poisoned, examiner=False) == set()
    assert any(name.startswith('examiner') for name in depends_on(clean, rest_poisoned))


FITTED = 'run.fitted(words, {}, pool, steps=generator_steps, **its_own)'


@pytest.mark.parametrize('function, change, leaks', [
    (None, instead(FITTED.format('drawn'), FITTED.format('data.train')), ('scaling', 'generator ')),
    (replicate.run_arms, instead('train', 'lambda drawn, *a, **k: train(data.train, *a, **k)'), ('real ', 'add '))],
    ids=['generator', 'classifier'])
def test_an_experiment_beyond_its_budget_is_found(monkeypatch, clean, rest_poisoned, function, change, leaks):
    found = leaky(monkeypatch, clean, rest_poisoned, function, change, examiner=False)
    assert any(name.startswith(leaks) for name in found)
