"Fifty random moments at which something is killed; every time the study goes on, and in the end nothing shows of it"
import os
import random
import shutil
import tempfile
import time
from pathlib import Path

import psutil
import pytest
import test_cluster
from pandas.testing import assert_frame_equal
from test_cluster import Dask, begin, finish
from test_study import BODY, PARAMETERS, ledger, rows_of, write_notebook

MOMENTS = int(os.environ.get('KILLS', 50))
VICTIMS = [('local', 'all'), ('local', 'parent'), ('local', 'worker'), ('local', 'kernel'), ('dask', 'parent'),
           ('dask', 'dask worker'), ('dask', 'scheduler'), ('dask', 'kernel'), ('dask', 'all')]
KINDS = {
    'kernel': lambda line: 'ipykernel' in line,
    'worker': lambda line: 'study.processes import execute' in line,
    'dask worker': lambda line: 'dask_worker' in line,
    'scheduler': lambda line: 'dask_scheduler' in line,
    'parent': lambda line: 'only_the_ledger' in line}


def ours(mark):
    "(kind, process) of all that bears the mark in its environment, this process excepted"
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE: continue
            if process.environ().get('SYNAUG_KILLS') != mark: continue
            line = ' '.join(process.cmdline())
            found.append((next((kind for kind, fits in KINDS.items() if fits(line)), 'other'), process))
        except psutil.Error: continue
    return found


def strays(mark, seconds=5):
    "What runs after so many seconds though nobody wants it: all but the servers of Dask"
    deadline = time.monotonic() + seconds
    while True:
        found = [(kind, p) for kind, p in ours(mark) if kind not in ('dask worker', 'scheduler')]
        if not found or time.monotonic() > deadline: return found
        time.sleep(.1)


@pytest.mark.slow
def test_fifty_kills(tmp_path, monkeypatch):
    scratch = Path(tempfile.mkdtemp(prefix='kills-'))
    mark = scratch.name
    write_notebook(tmp_path/'fake.ipynb', PARAMETERS, BODY)
    (tmp_path/'fake.yaml').write_text('notebook: fake.ipynb\ntitle: A made-up study\n')
    extra = dict(SYNAUG_KILLS=mark, TMPDIR=str(scratch))
    monkeypatch.setattr(test_cluster, 'PATIENT', test_cluster.PATIENT | extra)
    draw, out, dask, table = random.Random(0), tmp_path/'kills', None, []

    def study(n, engine, out='kills'):
        where = ['--cluster', dask.address] if engine == 'dask' else ['--workers', '2']
        return begin(tmp_path, 'fake.yaml', out, '--replicates', n, '--no-timing', *where)

    def servers():
        nonlocal dask
        if dask and dask.scheduler.poll() is not None:
            dask.end()
            dask = None
        if dask is None: dask = Dask(tmp_path/f'dask{len(table)}')
        while sum(worker.poll() is None for worker in dask.workers) < 2: dask.worker('--no-nanny')

    began = time.monotonic()
    code, _, wrong = finish(study(2, 'local'))
    assert code == 0, wrong
    usual = time.monotonic() - began
    for moment in range(MOMENTS):
        engine, victim = VICTIMS[moment % len(VICTIMS)]
        if engine == 'dask': servers()
        wanted, before = 3 + moment, rows_of(out)
        delay = draw.uniform(.1, 1.2)*usual
        parent = study(wanted, engine)
        time.sleep(delay)
        there = [p for kind, p in ours(mark) if victim in ('all', kind)]
        hit = there if victim == 'all' else there[:1]
        for process in hit:
            try: process.kill()
            except psutil.NoSuchProcess: pass
        code, said, wrong = finish(parent)
        left = strays(mark)
        finished = len(before), len(rows_of(out))
        table.append((moment, engine, victim, f'{delay:.1f} s', len(hit), code, *finished, len(left)))
        print(*table[-1], sep=' | ', flush=True)
        assert 'Traceback' not in wrong, wrong
        assert before.items() <= rows_of(out).items()              # what had finished was not done again
        assert not left, left
    if dask: dask.end()
    n = 2 + MOMENTS
    for name in 'kills', 'undisturbed':
        code, _, wrong = finish(study(n, 'local', name))
        assert code == 0, wrong
    assert_frame_equal(ledger(out), ledger(tmp_path/'undisturbed'))
    assert not [p for p in out.rglob('*') if p.suffix in ('.part', '.tmp') or p.name.startswith('.')]
    assert {p.name for p in scratch.iterdir()} <= {'dask-scratch-space'}        # of servers that were killed themselves
    shutil.rmtree(scratch)
