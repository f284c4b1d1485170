"A study in the jobs of a real SLURM: one node, started here by `slurmctld`, `slurmd` and `munged`"
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import yaml
from pandas.testing import assert_frame_equal
from synaug.study.file import shipped
from test_cluster import RUN, finish, wait_until
from test_study import BODY, ENV, PARAMETERS, ledger, rows_of, write_notebook

CONFIG = '''
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={at}/munge.socket
StateSaveLocation={at}/state
SlurmdSpoolDir={at}/spool
SlurmctldPidFile={at}/slurmctld.pid
SlurmdPidFile={at}/slurmd.pid
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
GresTypes=gpu
KillWait=5
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory=2000 Gres=gpu:1
PartitionName=gpu Nodes={host} Default=YES State=UP
'''


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


class Slurm:
    "One node with one GPU, which is none"
    def __init__(self, at):
        self.at, self.started, self.env = at, [], ENV | dict(SLURM_CONF=f'{at}/slurm.conf')
        host = socket.gethostname().split('.')[0]
        for name in 'state', 'spool': (at/name).mkdir()
        facts = dict(host=host, at=at, ports=[free_port(), free_port()], cores=os.cpu_count())
        (at/'slurm.conf').write_text(CONFIG.format(**facts))
        (at/'gres.conf').write_text('Name=gpu File=/dev/null\n')
        key = at/'munge.key'
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        endings = {'key-file': 'key', 'socket': 'socket', 'pid-file': 'pid', 'log-file': 'log', 'seed-file': 'seed'}
        files = [f'--{what}={at}/munge.{ending}' for what, ending in endings.items()]
        self.start('munged', '--foreground', '--force', '--num-threads=1', *files)
        wait_until((at/'munge.socket').exists)
        self.start('slurmctld', '-D', '-c')
        self.start('slurmd', '-D', '-N', host)
        wait_until(lambda: 'idle' in self('sinfo', '-h', '-o', '%T'))

    def start(self, name, *options):
        with open(self.at/f'{name}.out', 'w') as log:
            settings = dict(env=self.env, stdout=log, stderr=log, start_new_session=True)
            self.started.append(subprocess.Popen([shutil.which(name), *options], **settings))

    def __call__(self, *command): return subprocess.run(command, env=self.env, capture_output=True, text=True).stdout

    def end(self):
        self('scancel', '--full', '-u', 'root')
        wait_until(lambda: not self('squeue', '-h').strip())
        for process in reversed(self.started): process.terminate()
        for process in self.started: process.wait()


@pytest.fixture
def slurm():
    missing = [name for name in ('munged', 'slurmctld', 'slurmd', 'sbatch') if not shutil.which(name)]
    if missing: pytest.skip(f'no SLURM here: {", ".join(missing)} missing (Debian: slurm-wlm and munge)')
    if os.getuid(): pytest.skip('SLURM is started by root')
    at = Path(tempfile.mkdtemp(prefix='slurm-'))        # munged wants a socket that everybody could reach
    at.chmod(0o755)
    made = Slurm(at)
    yield made
    made.end()
    shutil.rmtree(at)


@pytest.mark.slow
def test_a_study_in_jobs_of_slurm(slurm, tmp_path):
    "The shipped example, cut down to this machine. One job is cancelled while it runs a replicate, and nothing is lost"
    write_notebook(tmp_path/'fake.ipynb', PARAMETERS, BODY)
    (tmp_path/'fake.yaml').write_text('notebook: fake.ipynb\ntitle: A made-up study\nreplicates: 3\n')
    file = yaml.safe_load((shipped('clusters')/'slurm-gpu.yaml').read_text())
    here = dict(cores=1, memory='1GB', walltime='00:30:00', python=sys.executable)
    folders = {f'{of}-directory': str(tmp_path/of) for of in ('log', 'local')}
    file['jobqueue']['slurm'] |= here | folders
    file['jobs'] = [0, 2]
    (tmp_path/'gpu.yaml').write_text(yaml.safe_dump(file))
    hold = tmp_path/'hold'
    hold.touch()

    def begin(out, *options):
        settings = dict(cwd=tmp_path, env=slurm.env | dict(HOLD=str(hold)), text=True)
        command = [*RUN, 'fake.yaml', '--out', out, *options]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **settings)

    out = tmp_path/'jobs'
    study = begin('jobs', '--cluster', 'gpu.yaml')
    def held(): return len(rows_of(out)) == 1 and len(list((out/'cache').glob('*.txt'))) == 2
    wait_until(lambda: held() or study.poll() is not None)
    assert held(), study.communicate()
    queue = slurm('squeue', '-h', '-o', '%i %T %j %b')
    first = re.search(r'^(\d+) RUNNING', queue, re.M)[1]
    slurm('scancel', first)
    hold.unlink()
    code, said, wrong = finish(study)
    log = '\n'.join([queue, said, wrong, slurm('sinfo'), (slurm.at/'slurmctld.out').read_text()])
    if os.environ.get('KEEP_LOG'): Path(os.environ['KEEP_LOG']).write_text(log)
    assert code == 0, log
    assert 'waiting for a worker of gpu.yaml' in said and '3/3' in said
    assert queue.count('gpu:1') >= 1                               # one GPU a job, one run at a time
    code, _, wrong = finish(begin('here'))
    assert code == 0, wrong
    assert_frame_equal(ledger(out), ledger(tmp_path/'here'))
