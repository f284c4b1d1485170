"Paper 2's chain, tiny: pool, pre-training, guide, curation, arms at two budgets, report"
from dataclasses import replace

import numpy as np
import pytest
from synaug.verdicts.claims import check_claims
from synaug.data.simulate import simulate
from synaug.errors import StudyError
from synaug.study.file import read_study
from synaug.study.ledger import collect
from synaug.study.runner import run_study
from test_replicate import write_npz

STUDY = """
notebook: histology_pretraining.ipynb
metric: macro_ap
replicates: 1
parameters:
  size: 16
  arms:
  - real
  - oracle
  - pseudo-labels
  - add:latent:centroid-50%
  - add:latent:centroid
  - add:latent-clean:random
  - add:latent-no-pool:confidence
  - add:latent-mixed:random
  - add:latent-tuned:random
  candidates: 2.
  autoencoder_steps: 4
  latent_steps: 4
  tuning_steps: 2
  guide_steps: 3
  sampling: 3
  updates: 6
  pretraining: 3
  examiner_updates: 6
grid: {labels: ['20%', '40%']}
claims:
  - {claim: selected images help, arm: 'add:latent:centroid', expects: 'at least 0.064'}
  - {claim: on a metric of multi-class tasks, arm: 'add:latent:centroid', metric: accuracy, expects: helps}
"""
ARMS = ['real', 'oracle', 'pseudo-labels', 'add:latent:centroid-50%', 'add:latent:centroid', 'add:latent-clean:random',
        'add:latent-no-pool:confidence', 'add:latent-mixed:random', 'add:latent-tuned:random']


@pytest.fixture(scope='module')
def data(): return simulate(seed=5, size=16, n_train=150, n_val=60, n_test=60, n_pool=80, n_shift=0)


@pytest.fixture(scope='module')
def further(tmp_path_factory):
    "A file that holds nothing but a pool, of larger images"
    path = tmp_path_factory.mktemp('pool')/'tiles.npz'
    tiles = simulate(seed=99, size=24, n_train=30, n_val=8, n_test=8, n_pool=0, n_shift=0).train
    np.savez(path, pool_images=tiles.images)
    return path


@pytest.fixture(scope='module')
def finished(data, further, tmp_path_factory):
    folder = tmp_path_factory.mktemp('histology')
    (folder/'tiny.yaml').write_text(STUDY)
    source = write_npz(folder/'cells.npz', data)
    study = read_study(folder/'tiny.yaml', [f'source={source}', f'pool_folder={further}'])
    return folder/'out', run_study(study, folder/'out')


def test_the_chain_ends_in_a_ledger_and_a_report(finished):
    out, report = finished
    ledger, page = collect(out), report.read_text()
    scored = ledger[ledger.split == 'test']
    assert set(scored.arm) == set(ARMS) and set(ledger.labels) == {'20%', '40%'}
    assert ledger.groupby('labels').replicate.nunique().tolist() == [1, 1]
    per_arm = ledger.drop_duplicates(['labels', 'replicate', 'arm']).set_index(['labels', 'replicate', 'arm'])
    real = per_arm.n_real['20%', 0, 'real']
    assert real == 30 and per_arm.n_real['40%', 0, 'real'] == 60
    assert [per_arm.n_extra['20%', 0, a] for a in ARMS] == [0, 30, 30, 15, *[30]*5]
    assert (per_arm.n_distinct.dropna() <= per_arm.n_extra.dropna()).all()
    for heading in ('Labels', 'Selection', 'Who gets the pool', 'Claims', 'Audits'):
        assert f'>{heading}<' in page or f'{heading}</h2>' in page or f'## {heading}' in page, heading
    measured = set(ledger.metric[ledger.arm == 'pre-training'])
    assert measured == {'Fréchet distance to the pool', 'reconstruction error, %'}
    words = 'latent', 'latent-clean', 'latent-no-pool', 'latent-mixed', 'latent-tuned'
    assert {f'audit:{word}' for word in words} <= set(ledger.arm)


def test_one_pre_training_serves_both_budgets(finished):
    own_pool, both_pools = (finished[0]/'cache').glob('pretrained-*')
    assert len(list((finished[0]/'runs').iterdir())) == 2


def test_a_claim_about_a_gain_is_held_against_that_gain(finished):
    rows = collect(finished[0])
    table = check_claims(rows[rows.labels == '20%'], read_study(finished[0].parent/'tiny.yaml').claims[:1])
    assert table.gain[0] == .064 and table.verdict[0] in ('more', 'less', 'inconclusive')


def test_a_pool_with_a_test_image_is_refused(data, tmp_path):
    (tmp_path/'tiny.yaml').write_text(STUDY)
    np.savez(tmp_path/'leaky.npz', pool_images=np.concatenate([data.pool.images, data.test.images[:3]]))
    source, pool = write_npz(tmp_path/'cells.npz', data), tmp_path/'leaky.npz'
    settings = [f'source={source}', f'pool_folder={pool}', 'labels=20%', 'arms=real']
    study = read_study(tmp_path/'tiny.yaml', settings, replicates=1)
    with pytest.raises(StudyError, match='3 images of test were fitted on'): run_study(study, tmp_path/'out')


def test_a_generator_without_a_pool_is_refused(data, tmp_path):
    (tmp_path/'tiny.yaml').write_text(STUDY)
    source = write_npz(tmp_path/'cells.npz', replace(data, pool=None))
    settings = [f'source={source}', 'labels=20%', 'arms=real,add:latent:centroid']
    study = read_study(tmp_path/'tiny.yaml', settings, replicates=1)
    with pytest.raises(StudyError, match='give pool_folder'): run_study(study, tmp_path/'out')
