"All package settings live in `settings.ini`; edit them there, not here."
from configparser import ConfigParser
from pathlib import Path
import shlex
from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

here = Path(__file__).parent
config = ConfigParser(delimiters=['='])
config.read(here/'settings.ini', encoding='utf-8')
cfg = config['DEFAULT']
SHIPPED = {
    'experiments': 'nbs/experiments/*.ipynb',
    'guides': 'nbs/guides/play.ipynb',
    'studies': 'studies/*.yaml',
    'clusters': 'clusters/*.yaml'}


class BuildWithStudies(build_py):
    "Puts experiment notebooks and studies into the package; an editable install reads them where they are"
    def shipped(self):
        "(file, its place in the package) of everything that ships beside the modules"
        for folder, pattern in SHIPPED.items():
            place = Path(self.build_lib)/cfg['lib_name']/'shipped'/folder
            for file in sorted(here.glob(pattern)): yield file, place/file.name

    def run(self):
        super().run()
        if self.editable_mode: return
        for file, place in self.shipped():
            self.mkpath(str(place.parent))
            self.copy_file(str(file), str(place))

    def get_outputs(self, include_bytecode=True):
        built = super().get_outputs(include_bytecode)
        if self.editable_mode: return built
        return built + [str(place) for _, place in self.shipped()]


setup(
    name=cfg['lib_name'],
    version=cfg['version'],
    description=cfg['description'],
    author=cfg['author'],
    author_email=cfg['author_email'],
    keywords=cfg['keywords'].split(),
    url=cfg['git_url'],
    license='Apache-2.0',
    classifiers=['Programming Language :: Python :: 3', 'Topic :: Scientific/Engineering'],
    python_requires='>='+cfg['min_python'],
    packages=find_packages(include=[cfg['lib_name'], cfg['lib_name']+'.*']),
    cmdclass={'build_py': BuildWithStudies},
    install_requires=shlex.split(cfg['requirements']),
    extras_require={
        'cluster': shlex.split(cfg['cluster_requirements']),
        'dev': shlex.split(cfg['dev_requirements'] + ' ' + cfg['cluster_requirements'])},
    entry_points={
        'nbdev': [f"{cfg['lib_path']}={cfg['lib_path']}._modidx:d"],
        'console_scripts': [cfg['console_scripts']]},
    long_description=(here/'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    zip_safe=False)
