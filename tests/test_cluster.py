"Studies on the workers of Dask: what they leave is what this machine would have left, whoever is killed meanwhile"
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cloudpickle
import numpy as np
import pandas as pd
import psutil
import pytest
from distributed import Client, LocalCluster
from pandas.testing import assert_frame_equal
from synaug.errors import StudyError
from synaug.study.cluster import Cluster, Workers
from synaug.study.file import read_study
from synaug.study.ledger import collect, read_settings
from synaug.study.progress import Forecast
from synaug.study.runner import run_study
from test_study import BODY, ENV, PARAMETERS, alive, command_of, gone, ledger, rows_of, write_notebook

# The command line, with a ledger in the place of a report, which is the same wherever the rows come from
RUN = [sys.executable, '-c', '''
from synaug import cli
from synaug.study import pages
from synaug.study.ledger import collect

def only_the_ledger(out):
    collect(out).to_parquet(out/'ledger.parquet')
    return out

pages.write_report, cli.print_outcome = only_the_ledger, print
cli.main()
''', 'run']
PATIENT = ENV | {f'DASK_DISTRIBUTED__COMM__TIMEOUTS__{what}': '60s' for what in ('CONNECT', 'TCP')}
KILLS = """
import os, psutil, signal
if replicate == 1 and os.environ.get('ON_DASK'): psutil.Process(os.getppid()).parent().kill()
"""


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    "A study file with its notebook; three replicates"
    folder = tmp_path_factory.mktemp('fake')
    write_notebook(folder/'fake.ipynb', PARAMETERS, BODY)
    write_notebook(folder/'kills.ipynb', PARAMETERS, KILLS, BODY)
    for name in 'fake', 'kills':
        (folder/f'{name}.yaml').write_text(f'notebook: {name}.ipynb\ntitle: A made-up study\nreplicates: 3\n')
    return folder


def rows(out): return collect(out).drop(columns='seconds')


# In one process

def test_a_study_begun_here_ends_on_a_cluster_with_the_same_rows(folder, monkeypatch):
    from synaug.study import pages
    monkeypatch.setattr(pages, 'write_report', lambda out: out)
    study, one = read_study(folder/'fake.yaml'), read_study(folder/'fake.yaml', replicates=1)
    run_study(study, folder/'here', workers=1)
    run_study(one, folder/'both', workers=1)
    begun = rows_of(folder/'both')
    with LocalCluster(n_workers=1, threads_per_worker=2, memory_limit=0, dashboard_address=':0') as local:
        with Client(local) as client: run_study(study, folder/'both', cluster=client)
    assert begun.items() <= rows_of(folder/'both').items()
    assert_frame_equal(rows(folder/'both'), rows(folder/'here'))
    assert sorted(p.name for p in (folder/'both'/'cache').iterdir()) == ['0.txt', '1.txt', '2.txt']
    assert not [p for p in (folder/'both'/'runs').iterdir() if p.suffix == '.part' or p.name.startswith('.')]


def test_runs_refuse_other_images_than_were_checked(tmp_path):
    "As where a file changes meanwhile, or another machine has another one under this name"
    def pictures(seed):
        images = np.random.default_rng(seed).integers(0, 256, (60, 8, 8, 1), dtype=np.uint8)
        np.savez(tmp_path/'cells.npz', train_images=images, train_labels=np.arange(60) % 2)
    def changed(*_):
        pictures(1)
        return Forecast()
    reads = 'from synaug.data.sources import load\nload(source, size=size)'
    write_notebook(tmp_path/'reads.ipynb', PARAMETERS + "source = ''\nsize = 8", reads, BODY)
    (tmp_path/'reads.yaml').write_text('notebook: reads.ipynb\ntitle: A made-up study\nreplicates: 1\n')
    pictures(0)
    study = read_study(tmp_path/'reads.yaml', [f'source={tmp_path/"cells.npz"}'])
    with LocalCluster(n_workers=1, threads_per_worker=1, memory_limit=0, dashboard_address=':0') as local:
        with Client(local) as client:
            for where, cluster in dict(here=None, there=client).items():
                pictures(0)
                with pytest.raises(StudyError, match='cells: other images than those that the study was begun with'):
                    run_study(study, tmp_path/where, agreed=changed, cluster=cluster)


# Schedulers and workers in processes of their own

def family(process):
    "A process and all below it; nothing where it has ended"
    try: return [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    except psutil.NoSuchProcess: return []


class Dask:
    "A scheduler and its workers, whose runs but replicate 0 do not end while the file `hold` exists"
    def __init__(self, folder):
        self.folder, self.hold, self.started, self.workers = folder, folder/'hold', [], []
        folder.mkdir(parents=True)
        file = folder/'scheduler.json'
        self.scheduler = self.start('scheduler', '--port', 0, '--no-show', '--scheduler-file', file)
        wait_until(lambda: file.exists() and file.read_text().strip().endswith('}'))
        self.address = json.loads(file.read_text())['address']

    def start(self, what, *options, before=()):
        command = *before, sys.executable, '-m', f'distributed.cli.dask_{what}', *options, '--no-dashboard'
        with open(self.folder/f'{what}{len(self.started)}.log', 'w') as log:
            settings = dict(env=PATIENT | dict(HOLD=str(self.hold), ON_DASK='1'), stdout=log, stderr=log)
            self.started.append(subprocess.Popen([*map(str, command)], start_new_session=True, **settings))
        return self.started[-1]

    def worker(self, *options, before=()):
        "Start a worker, by the command `before` if there is one"
        local = self.folder/f'worker{len(self.workers)}'
        options = '--nthreads', 1, '--memory-limit', 0, '--local-directory', local, *options
        self.workers.append(self.start('worker', self.address, *options, before=before))
        return self.workers[-1]

    def runs(self):
        "The processes of runs, and their kernels"
        below = [p for worker in self.workers for p in family(worker)]
        return [p for p in below if 'ipykernel' in command_of(p) or 'study.processes' in command_of(p)]

    def end(self):
        for process in self.started:
            for p in family(process): p.kill()
        for process in self.started: process.wait()


def finish(process):
    out, err = process.communicate(timeout=1800)
    return process.returncode, out, err


def wait_until(done, seconds=900):
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, 'it takes too long'
        time.sleep(.05)


def until_held(study, out):
    "Wait until replicate 0 of three has finished, and the others are held"
    def held(): return len(rows_of(out)) == 1 and len(list((out/'cache').glob('*.txt'))) == 3
    wait_until(lambda: held() or study.poll() is not None)
    assert held(), study.communicate()


@pytest.fixture
def dask(tmp_path):
    made = Dask(tmp_path/'dask')
    yield made
    made.end()


def begin(folder, study, out, *options, hold=''):
    "A study in a process of its own, which hears SIGINT"
    return subprocess.Popen(
        [*RUN, study, '--out', out, *map(str, options)],
        cwd=folder,
        env=PATIENT | dict(HOLD=str(hold)),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))


@pytest.fixture(scope='module')
def whole(folder):
    "The study run here, without interruption"
    code, said, wrong = finish(begin(folder, 'fake.yaml', 'whole', '--no-timing'))
    assert code == 0, wrong
    return folder/'whole'


def hidden(folder):
    "A command before another, which does not see what is in the folder"
    inside = f'mount -t tmpfs none {folder} && exec "$@"'
    for root in ([], ['--user', '--map-root-user']):
        command = ['unshare', *root, '--mount', 'sh', '-c', inside, 'sh']
        if not shutil.which('unshare'): break
        if not subprocess.run([*command, 'true'], capture_output=True).returncode: return command
    pytest.skip('this system lets us hide no folder from a process (unshare --mount)')


@pytest.mark.slow
def test_workers_without_the_folder_send_back_what_they_wrote(folder, whole, dask):
    dask.worker(before=hidden(folder))
    dask.worker(before=hidden(folder))
    code, said, wrong = finish(begin(folder, 'fake.yaml', 'sent', '--cluster', dask.address))
    assert code == 0, wrong
    assert '3/3' in said
    assert_frame_equal(ledger(folder/'sent'), ledger(whole))
    assert not list((folder/'sent'/'cache').iterdir())             # kept steps stayed with the workers
    left = [p.name for p in dask.folder.rglob('*') if p.suffix == '.part' or p.name == 'run.ipynb']
    assert not left


@pytest.mark.slow
def test_a_run_that_takes_three_workers_down_has_failed(folder, dask):
    for _ in range(2): dask.worker('--nanny')
    code, said, wrong = finish(begin(folder, 'kills.yaml', 'killed', '--cluster', dask.address))
    assert code == 1 and '1 of 3 runs failed' in wrong and '3 workers were lost' in wrong
    assert ledger(folder/'killed').replicate.unique().tolist() == [0, 2]
    code, _, wrong = finish(begin(folder, 'kills.yaml', 'killed'))
    assert code == 0, wrong                                        # nothing dies here
    assert ledger(folder/'killed').replicate.unique().tolist() == [0, 1, 2]


@pytest.mark.slow
def test_the_scheduler_is_killed_and_the_study_goes_on_here(folder, whole, dask):
    dask.hold.touch()
    for _ in range(2): dask.worker()
    study, out = begin(folder, 'fake.yaml', 'headless', '--cluster', dask.address), folder/'headless'
    until_held(study, out)
    runs = dask.runs()
    dask.scheduler.kill()
    code, said, wrong = finish(study)
    assert code == 1 and 'the scheduler is gone' in wrong and wrong.count('\n') == 1, wrong
    assert gone(runs, 5), [p.cmdline() for p in alive(runs)]
    done = rows_of(out)
    code, _, wrong = finish(begin(folder, 'fake.yaml', 'headless'))
    assert code == 0, wrong
    assert len(done) == 1 and done.items() <= rows_of(out).items()
    assert_frame_equal(ledger(out), ledger(whole))


@pytest.mark.slow
@pytest.mark.parametrize('how, code', [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_the_parent_is_stopped_and_nothing_goes_on(folder, whole, dask, how, code):
    dask.hold.touch()
    for _ in range(2): dask.worker()
    name = f'stopped{code}'
    study, out = begin(folder, 'fake.yaml', name, '--cluster', dask.address), folder/name
    until_held(study, out)
    runs = dask.runs()
    assert len(runs) >= 4
    study.send_signal(how)
    told, _, wrong = finish(study)
    assert told == code and ('the same command continues' in wrong) == (how == signal.SIGINT)
    assert gone(runs, 5), [p.cmdline() for p in alive(runs)]
    dask.hold.unlink()
    code, _, wrong = finish(begin(folder, 'fake.yaml', name, '--cluster', dask.address))
    assert code == 0, wrong
    assert_frame_equal(ledger(out), ledger(whole))
    assert not [p for p in (out/'runs').iterdir() if p.suffix == '.part' or p.name.startswith('.')]

@pytest.mark.slow
def test_several_studies_and_a_limit_on_a_cluster(folder, whole, dask):
    "The second study is held: its runs are ended and told; the first was finished before"
    dask.hold.touch()
    (folder/'held.yaml').write_text((folder/'fake.yaml').read_text().replace('replicates: 3', 'replicates: 2'))
    (folder/'alone.yaml').write_text((folder/'fake.yaml').read_text().replace('replicates: 3', 'replicates: 1'))
    for _ in range(2): dask.worker()
    options = '--cluster', dask.address, '--limit', '.3'
    code, said, wrong = finish(begin(folder, 'alone.yaml', 'both', 'held.yaml', *options))
    assert code == 1 and '1 of 2 runs failed' in wrong and 'took longer than a run may' in wrong, wrong
    assert [len(rows_of(folder/'both'/name)) for name in ('alone', 'held')] == [1, 1]
    dask.hold.unlink()
    code, _, wrong = finish(begin(folder, 'alone.yaml', 'both', 'held.yaml', '--replicates', 3, *options))
    assert code == 0, wrong
    for name in 'alone', 'held':
        assert_frame_equal(ledger(folder/'both'/name).assign(study=''), ledger(whole).assign(study=''))


@pytest.mark.slow
def test_a_search_on_a_cluster_is_the_search_here(tmp_path, monkeypatch):
    from synaug.study import search as room
    monkeypatch.setattr('synaug.study.pages.write_report', lambda out: out)
    images = np.random.default_rng(0).integers(0, 256, (300, 8, 8, 1), dtype=np.uint8)
    np.savez(tmp_path/'cells.npz', train_images=images, train_labels=np.arange(300) % 2)
    parameters = PARAMETERS + "source = ''\nlabels_per_class = 5\nhidden_labels = True\nstage = 'confirm'\n"
    body = BODY.replace("'val', 'test'", "('val',) if stage == 'explore' else ('val', 'test')")
    write_notebook(tmp_path/'race.ipynb', parameters, body.replace('**facts', '**facts, stage=stage'))
    (tmp_path/'race.yaml').write_text('notebook: race.ipynb\ntitle: A race\nreplicates: 2\nmetric: macro_f1\nsearch:\n'
                                      '  candidates: [add-800%, add, flips, mixup]\n  trainings: 8\n')
    race = room.read_search(tmp_path/'cells.npz', search=tmp_path/'race.yaml')
    told = dict(timing=False, say=lambda *_: None)
    room.run_search(race, tmp_path/'here', workers=2, **told)
    with LocalCluster(n_workers=1, threads_per_worker=2, memory_limit=0, dashboard_address=':0') as local:
        with Client(local) as client: room.run_search(race, tmp_path/'there', cluster=client, **told)
    here, there = rows(tmp_path/'here'), rows(tmp_path/'there')
    assert set(here.stage) == {'explore', 'confirm'}
    assert_frame_equal(here, there)
    chosen = [read_settings(tmp_path/name)['chosen'] for name in ('here', 'there')]
    assert chosen[0] == chosen[1] and chosen[0]['image'] in race.candidates


# Many

def pretend(rows, notebook):
    "On a worker: runs are no processes from here on, but write these rows and this notebook at once"
    import synaug.study.cluster as room
    def at_once(jobs, workers, threads, done, *_, **__):
        for job in jobs:
            job[1].mkdir(parents=True)
            for name, content in [('rows.parquet', rows), ('notebook.ipynb', notebook), ('log.txt', b'')]:
                (job[1]/name).write_bytes(content)
            done(job, 0, 0.)
    room.execute_all = at_once


def megabytes(process): return process.memory_info().rss/1e6


def seconds(process): return sum(process.cpu_times()[:2])


@pytest.mark.slow
@pytest.mark.parametrize('seen', [True, False], ids=['shared folder', 'sent back'])
def test_a_thousand_runs_cost_little(tmp_path, dask, capsys, seen):
    "What Dask and the parent add to runs that take no time; prints it"
    n, out = 1000, tmp_path/'runs'
    write_notebook(tmp_path/'fake.ipynb', PARAMETERS, BODY)
    jobs = [(tmp_path/'fake.ipynb', out/f'r{i:04d}.part', dict(replicate=i, out='')) for i in range(n)]
    out.mkdir()
    for _ in range(2): dask.worker(before=[] if seen else hidden(out))
    parent, scheduler, grown = psutil.Process(), psutil.Process(dask.scheduler.pid), []
    def done(job, code, took): grown.append((megabytes(parent), megabytes(scheduler)))
    rows = pd.DataFrame([dict(arm=arm, split='test', metric='macro_f1', value=.7) for arm in ('real', 'add')])
    with Cluster(dask.address) as cluster:
        workers = Workers(cluster)
        cloudpickle.register_pickle_by_value(sys.modules[__name__])         # workers do not know this file
        cluster.client.run(pretend, rows.to_parquet(index=False), b' '*500_000)
        spent, began = [seconds(parent), seconds(scheduler)], time.monotonic()
        workers.execute_all(jobs, None, 1, done)
        took = time.monotonic() - began
    spent = [seconds(parent) - spent[0], seconds(scheduler) - spent[1]]
    assert len(list(out.glob('r*.part/rows.parquet'))) == len(grown) == n
    early, late = grown[n//10], grown[-1]
    with capsys.disabled():
        print(f'\n{n} runs, {"shared folder" if seen else "sent back"}: {1000*took/n:.0f} ms a run on the clock; '
              f'processor: parent {1000*spent[0]/n:.1f} ms, scheduler {1000*spent[1]/n:.1f} ms a run; '
              f'memory after {n//10} and {n} runs: parent {early[0]:.0f} and {late[0]:.0f} MB, '
              f'scheduler {early[1]:.0f} and {late[1]:.0f} MB')
    assert late[0] - early[0] < 50 and late[1] - early[1] < 50
