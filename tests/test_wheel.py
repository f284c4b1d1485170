"The wheel, built from the source distribution, works in a clean environment outside the checkout."
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parent.parent
# make the shipped `quick` study a matter of seconds
TINY = {'labels_per_class': 2, 'generator_steps': 4, 'sampling_steps': 2, 'updates': 4, 'examiner_updates': 4,
        'pool_updates': 3, 'pool_steps': 4}


def run(*command, cwd, **options):
    "Run a command far from this checkout: no PYTHONPATH, no virtual environment; its output is shown if it fails"
    templates = Path(sys.prefix)/'share'/'jupyter'                # nbconvert's lie outside site-packages
    env = {k: v for k, v in os.environ.items() if k not in ('PYTHONPATH', 'VIRTUAL_ENV', 'IN_TEST')}
    env |= {'OMP_NUM_THREADS': '1', 'JUPYTER_PATH': str(templates)}
    done = subprocess.run(list(map(str, command)), cwd=cwd, env=env, capture_output=True, text=True, **options)
    assert done.returncode == 0, f'{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}'
    return done.stdout


@pytest.fixture(scope='session')
def wheel(tmp_path_factory):
    "sdist, then wheel from it, from a copy of the checkout without anything generated"
    work = tmp_path_factory.mktemp('wheel')
    generated = shutil.ignore_patterns('.*', '*.egg-info', 'build', 'dist', 'runs', '_docs', '_proc', '__pycache__')
    shutil.copytree(ROOT, work/'source', ignore=generated)
    run(sys.executable, '-m', 'build', '--no-isolation', '--outdir', work/'dist', work/'source', cwd=work)
    [found] = (work/'dist').glob('*.whl')
    return found


@pytest.fixture(scope='session')
def environment(wheel, tmp_path_factory):
    "An environment with the wheel; its dependencies are borrowed from the one that runs the tests"
    home = tmp_path_factory.mktemp('environment')
    venv.create(home, with_pip=False, symlinks=os.name != 'nt')
    scripts = Path(sysconfig.get_path('scripts', 'venv', vars={'base': str(home), 'platbase': str(home)}))
    python = scripts/'python'
    run(sys.executable, '-m', 'pip', '--python', python, 'install', '--no-deps', '--no-index', '-q', wheel, cwd=home)
    site = Path(run(python, '-c', 'import sysconfig; print(sysconfig.get_path("purelib"))', cwd=home).strip())
    (site/'borrowed.pth').write_text(sysconfig.get_path('purelib')+'\n')
    return scripts


def test_wheel_has_package_notebooks_and_studies_and_nothing_else(wheel):
    expected = {p.relative_to(ROOT).as_posix() for p in (ROOT/'synaug').rglob('*.py')}
    expected |= {f'synaug/shipped/experiments/{p.name}' for p in (ROOT/'nbs'/'experiments').glob('*.ipynb')}
    kinds = 'studies', 'clusters'
    expected |= {f'synaug/shipped/{kind}/{p.name}' for kind in kinds for p in (ROOT/kind).glob('*.yaml')}
    expected |= {'synaug/shipped/guides/play.ipynb'}
    files = {name for name in zipfile.ZipFile(wheel).namelist() if '.dist-info/' not in name}
    assert files == expected
    assert {'synaug/shipped/studies/quick.yaml', 'synaug/shipped/studies/your-images.yaml',
            'synaug/shipped/experiments/your_images.ipynb'} <= files


def test_metadata_comes_from_settings(wheel):
    archive = zipfile.ZipFile(wheel)
    read = lambda ending: next(archive.read(n).decode() for n in archive.namelist() if n.endswith(ending))
    assert 'License: Apache-2.0' in read('METADATA') and 'Requires-Dist: torch' in read('METADATA')
    assert 'synaug = synaug.cli:main' in read('entry_points.txt')
    assert any(name.endswith('licenses/LICENSE') for name in archive.namelist())


def test_the_installed_package_is_the_wheels(environment, tmp_path):
    place = Path(run(environment/'python', '-c', 'import synaug; print(synaug.__file__)', cwd=tmp_path).strip())
    assert place.is_relative_to(environment.parent) and not place.is_relative_to(ROOT)


def test_every_module_imports(environment, tmp_path):
    walk = 'import pkgutil, synaug; print(*(m.name for m in pkgutil.walk_packages(synaug.__path__, "synaug.")))'
    modules = run(environment/'python', '-c', walk, cwd=tmp_path).split()
    assert {'synaug.data.images', 'synaug.study.runner'} <= set(modules)
    run(environment/'python', '-c', f'import importlib; [importlib.import_module(m) for m in {modules}]', cwd=tmp_path)


@pytest.mark.slow
def test_a_tiny_study_runs_from_the_wheel(environment, tmp_path):
    settings = [part for name, value in TINY.items() for part in ('-p', f'{name}={value}')]
    command = environment/'synaug', 'run', 'quick', *settings, '--replicates', 1, '--out', tmp_path/'tiny'
    run(*command, cwd=tmp_path, timeout=600)
    ledger = pd.read_parquet(tmp_path/'tiny'/'ledger.parquet')
    assert set(ledger.replicate) == {0} and {'val', 'test'} <= set(ledger.split)
    updates = ledger.groupby('arm').updates.first().dropna()
    assert updates.pop('longer') == 2*TINY['updates'] and set(updates) == {TINY['updates']}
    assert {'real', 'oracle', 'pool-pretrained', 'add-800%', 'add:to-all:from-pool-800%'} <= set(updates.index)
    report = (tmp_path/'tiny'/'report.html').read_text(encoding='utf-8')
    assert '<img' in report and (tmp_path/'tiny'/'verdict.csv').exists()
