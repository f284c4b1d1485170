"Study files, manifests and arrays that nobody would write: they can be read, or give one known error; no other file"
import os
import sys
import tempfile
import warnings
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from synaug.data.sources import load
from synaug.errors import SynaugError
from synaug.study.file import read_study
from test_study import BODY, PARAMETERS, write_notebook

KEYS = ['notebook', 'title', 'parameters', 'grid', 'replicates', 'baseline', 'margin', 'metric', 'claims', 'search']
NAMES = ['effect', 'arms', 'fails_at', 'user_error', 'replicate', 'out', 'cache', 'source', 'nothing']
COLUMNS = ['path', 'label', 'group', 'split', 'domain', 'image_id', 'dx', '']
ARRAYS = ['images', 'labels', *(f'{split}_{of}' for split in ('train', 'val', 'test') for of in ('images', 'labels'))]

text = st.text(max_size=12)
words = st.sampled_from(
    ['fake.ipynb', 'real', 'add', 'a.png', 'b.png', '../x', '/etc/passwd', 'train', 'test', '1e-4', '{out}'])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | text | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES) | text, inner, max_size=3),
    max_leaves=6)
studies = st.dictionaries(st.sampled_from(KEYS) | text, values, max_size=5).map(
    lambda keys: yaml.safe_dump({'notebook': 'fake.ipynb'} | keys)) | text | st.binary(max_size=40)
cells = text | words
rows = st.lists(st.lists(cells, max_size=5), max_size=6)
heads = st.lists(st.sampled_from(COLUMNS) | text, min_size=1, max_size=4)
def table(head, rows, between): return '\n'.join(between.join(row) for row in [head, *rows])
tables = st.builds(table, heads, rows, st.sampled_from([',', ';', '\t'])) | st.binary(max_size=60)
kinds = st.sampled_from(['u1', 'u2', 'i8', 'f4', 'f8', 'b1', 'U3', 'c8'])
shapes = st.lists(st.integers(0, 6), max_size=5).map(tuple)
arrays = st.dictionaries(st.sampled_from(ARRAYS) | text.filter(lambda s: '/' not in s and '\0' not in s),
                         st.tuples(kinds, shapes), max_size=5)


@pytest.fixture
def examples(request): return 500 if request.config.getoption('--slow') else 40


class Written(Exception): "A file was opened for writing where none may be"


allowed = []        # folders, while a test of this module is at work


def watch(event, arguments):
    if not allowed or event != 'open' or not isinstance(arguments[0], str): return
    path, mode, flags = arguments
    writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    inside = any(Path(path).resolve().is_relative_to(folder) for folder in allowed)
    if writes and path != os.devnull and not inside: raise Written(path)


sys.addaudithook(watch)


@contextmanager
def only_in(*folders):
    "Writing anywhere else is an error"
    allowed.extend(Path(f).resolve() for f in folders)
    try: yield
    finally: allowed.clear()


def tries(read, folder):
    "Only a known mistake, or an error of the system, may come of it"
    before = sorted(p for p in folder.rglob('*'))
    with only_in(folder), warnings.catch_warnings(action='ignore'):
        try: read()
        except (SynaugError, OSError) as e: assert str(e)
    assert sorted(p for p in folder.rglob('*')) == before


def often(examples, strategy, check):
    "Run `check` on so many examples, the same each time"
    same_each_time = dict(deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @settings(max_examples=examples, **same_each_time)
    @given(strategy)
    def run(example): check(example)
    run()


def in_bytes(content): return content if isinstance(content, bytes) else content.encode('utf-8', 'surrogatepass')


def test_study_files(tmp_path, examples):
    write_notebook(tmp_path/'fake.ipynb', PARAMETERS, BODY)
    def check(content):
        (tmp_path/'fake.yaml').write_bytes(in_bytes(content))
        tries(lambda: read_study(tmp_path/'fake.yaml').points(), tmp_path)
    often(examples, studies, check)


def test_manifests(tmp_path, examples, monkeypatch):
    from PIL import Image
    monkeypatch.setenv('SYNAUG_CACHE', str(tmp_path/'cache'))
    (tmp_path/'cache').mkdir()
    for i, name in enumerate(['a.png', 'b.png']): Image.fromarray(np.full((8, 8, 3), 9*i, np.uint8)).save(tmp_path/name)
    def check(content):
        (tmp_path/'table.csv').write_bytes(in_bytes(content))
        tries(lambda: load(str(tmp_path/'table.csv')), tmp_path)
    often(examples, tables, check)


def test_arrays(tmp_path, examples):
    rng = np.random.default_rng(0)
    def check(made):
        values = {name: np.asarray(rng.integers(0, 3, shape)).astype(kind) for name, (kind, shape) in made.items()}
        with open(tmp_path/'set.npz', 'wb') as f: np.savez(f, **{name or 'x': value for name, value in values.items()})
        tries(lambda: load(str(tmp_path/'set.npz')), tmp_path)
    often(examples, arrays, check)


def test_arrays_that_are_cut(tmp_path, examples):
    np.savez(tmp_path/'whole.npz', images=np.zeros((4, 8, 8), np.uint8), labels=np.arange(4) % 2)
    whole = (tmp_path/'whole.npz').read_bytes()
    def check(change):
        at, byte, length = change
        content = bytearray(whole[:length])
        if at < length: content[at] = byte
        (tmp_path/'set.npz').write_bytes(content)
        tries(lambda: load(str(tmp_path/'set.npz')), tmp_path)
    often(examples, st.tuples(st.integers(0, len(whole)), st.integers(0, 255), st.integers(0, len(whole))), check)


def test_a_fault_would_be_found(tmp_path):
    "These checks can fail"
    with pytest.raises(ZeroDivisionError): tries(lambda: 1/0, tmp_path)
    with pytest.raises(AssertionError): tries(lambda: (tmp_path/'new').touch(), tmp_path)
    with pytest.raises(Written): tries(lambda: open(Path(tempfile.gettempdir())/'outside', 'w'), tmp_path)
