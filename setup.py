"All package settings live in `settings.ini`; edit them there, not here."
from configparser import ConfigParser
from pathlib import Path
import shlex
from setuptools import find_packages, setup

here = Path(__file__).parent
config = ConfigParser(delimiters=['='])
config.read(here/'settings.ini', encoding='utf-8')
cfg = config['DEFAULT']
setup(name=cfg['lib_name'], version=cfg['version'], description=cfg['description'], author=cfg['author'],
    author_email=cfg['author_email'], keywords=cfg['keywords'].split(), url=cfg['git_url'], license='Apache-2.0',
    classifiers=['Programming Language :: Python :: 3', 'Topic :: Scientific/Engineering'],
    python_requires='>='+cfg['min_python'],
    packages=find_packages(include=[cfg['lib_name'], cfg['lib_name']+'.*']), include_package_data=True,
    install_requires=shlex.split(cfg['requirements']), extras_require={'dev': shlex.split(cfg['dev_requirements'])},
    entry_points={'nbdev': [f"{cfg['lib_path']}={cfg['lib_path']}._modidx:d"], 'console_scripts': [cfg['console_scripts']]},
    long_description=(here/'README.md').read_text(encoding='utf-8'), long_description_content_type='text/markdown', zip_safe=False)
