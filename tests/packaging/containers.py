"""The container's recipe and the Kubernetes manifest, as far as no container runtime and no cluster are needed.

The recipe is linted, and the root that it would make is made and entered. Every member of the manifest is compared with the
models of the Kubernetes client, and what makes a sidecar fit Cassandra is looked at by name.
"""
import argparse
import pathlib
import re
import subprocess
import sys
import tempfile

import kubernetes.client
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
CONTAINERFILE = ROOT / 'packaging/container/Containerfile'
MANIFEST = ROOT / 'packaging/kubernetes/cassandra-cdc.yaml'
KINDS = {'ConfigMap': 'V1ConfigMap', 'Secret': 'V1Secret', 'Service': 'V1Service', 'StatefulSet': 'V1StatefulSet'}
# What models of the client call by other names than their class.
PLAIN = {'str': str, 'int': int, 'bool': bool, 'object': object, 'bytearray': str, 'datetime': str, 'IntOrString': (int, str)}


def check(holds, what):
    if not holds:
        sys.exit(f'FAILED: {what}')


def conforms(value, kind, at):
    """Every member is one that Kubernetes knows, of its type; what must be there is."""
    if listed := re.fullmatch(r'[Ll]ist\[(.+)\]', kind):
        check(isinstance(value, list), f'{at}: no list')
        for n, item in enumerate(value):
            conforms(item, listed[1], f'{at}[{n}]')
    elif mapped := re.fullmatch(r'[Dd]ict[\[(]str, (.+)[\])]', kind):
        check(isinstance(value, dict), f'{at}: no mapping')
        for name, item in value.items():
            conforms(item, mapped[1], f'{at}.{name}')
    elif kind in PLAIN:
        check(isinstance(value, PLAIN[kind]), f'{at}: {value!r} is no {kind}')
    else:
        model = getattr(kubernetes.client, kind)
        check(isinstance(value, dict), f'{at}: no mapping')
        members = {written: name for name, written in model.attribute_map.items()}
        for written, item in value.items():
            check(written in members, f'{at}: Kubernetes knows no {written}; {sorted(members)}')
            conforms(item, model.openapi_types[members[written]], f'{at}.{written}')
        try:
            model(**{members[written]: item for written, item in value.items()})
        except ValueError as e:
            sys.exit(f'FAILED: {at}: {e}')


def the_check_bites(manifest):
    """A member that is misspelt, of another type, or missing must be found."""
    for change in (lambda pod: pod['containers'][1].update(readOnlyRootFileSystem=True),
                   lambda pod: pod.update(terminationGracePeriodSeconds='soon'),
                   lambda pod: pod['containers'][1].pop('name')):
        broken = yaml.safe_load(yaml.safe_dump(manifest))
        change(broken['spec']['template']['spec'])
        script = 'import sys, yaml, containers; containers.conforms(yaml.safe_load(sys.stdin), "V1StatefulSet", "broken")'
        done = subprocess.run([sys.executable, '-c', script], input=yaml.safe_dump(broken), text=True, capture_output=True,
                              cwd=pathlib.Path(__file__).parent)
        check(done.returncode != 0 and 'FAILED: broken' in done.stderr, f'a broken manifest passes: {done}')


def kubernetes_manifest(binary):
    documents = {d['kind']: d for d in yaml.safe_load_all(MANIFEST.read_text())}
    check(set(documents) == set(KINDS), f'{sorted(documents)}')
    for kind, document in documents.items():
        conforms(document, KINDS[kind], kind)
    the_check_bites(documents['StatefulSet'])
    sidecar(documents)
    configuration(documents, binary)


def sidecar(documents):
    stateful = documents['StatefulSet']['spec']
    pod = stateful['template']['spec']
    cassandra, agent = pod['containers']
    check((cassandra['name'], agent['name']) == ('cassandra', 'cassandra-cdc'), 'containers')
    user = pod['securityContext']
    check(user['runAsNonRoot'] and user['runAsUser'] == user['runAsGroup'] == 999, f'user: {user}')
    check('runAsUser' not in agent['securityContext'] and 'securityContext' not in cassandra, 'one user for both')
    secure = agent['securityContext']
    check(secure == {'allowPrivilegeEscalation': False, 'readOnlyRootFilesystem': True, 'capabilities': {'drop': ['ALL']}}, f'{secure}')
    check(user['seccompProfile'] == {'type': 'RuntimeDefault'}, f'{user}')
    check(agent['resources']['limits']['memory'] == '512Mi', 'the memory that the unit gives it too')
    port = {p['name']: p['containerPort'] for p in agent['ports']}['metrics']
    probes = {name: agent[name]['httpGet'] for name in ('startupProbe', 'livenessProbe', 'readinessProbe')}
    check({p['path'] for p in probes.values()} == {'/livez', '/readyz'} and probes['readinessProbe']['path'] == '/readyz', f'{probes}')
    check(port == 9470 and all(p['port'] == 'metrics' for p in probes.values()), f'ports: {port} {probes}')
    mounts = {m['mountPath']: m['name'] for m in agent['volumeMounts']}
    check(mounts['/var/lib/cassandra/cdc'] == {m['mountPath']: m['name'] for m in cassandra['volumeMounts']}['/var/lib/cassandra/cdc'],
          'both containers have the one volume of cdc_raw and spool')
    volumes = {v['name'] for v in pod['volumes']} | {c['metadata']['name'] for c in stateful['volumeClaimTemplates']}
    used = {m['name'] for c in pod['containers'] for m in c['volumeMounts']}
    check(used == volumes, f'volumes: {volumes}, mounted: {used}')
    check(not any('env' in c for c in pod['containers']), 'secrets are files')


def configuration(documents, binary):
    """The agent takes the configuration, with the secrets as files."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        text = documents['ConfigMap']['data']['cassandra-cdc.toml']
        for name, secret in documents['Secret']['stringData'].items():
            (folder / name).write_text(secret)
            (folder / name).chmod(0o600)
        (folder / 'agent.toml').write_text(text.replace('/etc/cassandra-cdc/secrets/', f'{folder}/'))
        done = subprocess.run([binary, 'config', 'validate', '-c', folder / 'agent.toml'], capture_output=True, text=True)
        check(done.returncode == 0, done.stderr)
    shared = '/var/lib/cassandra/cdc/'
    check(f'cdc_raw = "{shared}cdc_raw"' in text and f'directory = "{shared}cdc_spool"' in text, 'cdc_raw and spool are in one mount')


def recipe(binary):
    hadolint = pathlib.Path(sys.executable).parent / 'hadolint'
    done = subprocess.run([hadolint, CONTAINERFILE], capture_output=True, text=True)
    check(done.returncode == 0, f'hadolint:\n{done.stdout}{done.stderr}')
    text = CONTAINERFILE.read_text()
    toolchain = re.search(r'channel = "([0-9.]+)"', (ROOT / 'rust-toolchain.toml').read_text())[1]
    check(f'rust:{toolchain}' in text, f'the image is built with another Rust than {toolchain}')
    check('FROM scratch' in text and 'USER 999:999' in text, 'nothing in it, and not root')
    with tempfile.TemporaryDirectory() as folder:
        image = pathlib.Path(folder) / 'image'
        subprocess.run([ROOT / 'packaging/container/collect', binary, image], check=True)
        inside = ['chroot', '--userspec=999:999', image, '/usr/bin/cassandra-cdc']
        version = subprocess.run([*inside, '--version'], capture_output=True, text=True)
        check(version.returncode == 0 and version.stdout.startswith('cassandra-cdc '), f'in the image: {version}')
        # The whole line, with the C libraries; a temporary folder is all that it writes to.
        demo = subprocess.run([*inside, 'demo'], capture_output=True, text=True)
        check(demo.returncode == 0, f'demo in the image: {demo}')
        programs = [p for p in image.rglob('*') if p.is_file() and p.parent.name in ('bin', 'sbin')]
        check([p.name for p in programs] == ['cassandra-cdc'], f'programs in the image: {programs}')
        size = sum(p.stat().st_size for p in image.rglob('*') if p.is_file())
        print(f'the root of the image has {size / 1e6:.0f} MB, and runs its binary as 999 without a shell')


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument('--binary', type=pathlib.Path, required=True)
    binary = arguments.parse_args().binary.resolve()
    recipe(binary)
    kubernetes_manifest(binary)
    print('ok')


if __name__ == '__main__':
    main()
