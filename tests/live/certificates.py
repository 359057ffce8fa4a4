"""The certificates of a small company: a CA, what it signed, and what it should not have; made by openssl and keytool."""
import pathlib
import subprocess

STORE_PASSWORD = 'of-the-store'
KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes']
HERE = 'DNS:localhost,IP:127.0.0.1'


class Authority:
    """One CA and the files that it makes below `directory`, each by its name."""

    def __init__(self, directory, name='ca'):
        self.directory, self.name = pathlib.Path(directory), name
        self.directory.mkdir(parents=True, exist_ok=True)
        self.ca = self.file(name, 'pem')
        self._openssl('req', '-x509', *KEY, '-keyout', self.file(name, 'key'), '-out', self.ca, '-days', '30', '-subj', f'/CN={name}')

    def file(self, name, kind):
        return self.directory / f'{name}.{kind}'

    def sign(self, name, alternative_names=None, days=30):
        """NAME.pem, NAME.key, and NAME.both.pem with the two. Negative days: it has expired."""
        request, certificate, key = self.file(name, 'csr'), self.file(name, 'pem'), self.file(name, 'key')
        names = ['-addext', f'subjectAltName={alternative_names}'] if alternative_names else []
        self._openssl('req', '-new', *KEY, '-keyout', key, '-out', request, '-subj', f'/CN={name}', *names)
        self._openssl('x509', '-req', '-in', request, '-CA', self.ca, '-CAkey', self.file(self.name, 'key'), '-CAcreateserial',
                      '-days', days, '-copy_extensions', 'copy', '-out', certificate)
        both = self.file(name, 'both.pem')
        both.write_text(key.read_text() + certificate.read_text())
        return certificate, key, both

    def key_store(self, name):
        """What NAME has, as Java reads it."""
        store = self.file(name, 'p12')
        self._openssl('pkcs12', '-export', '-in', self.file(name, 'pem'), '-inkey', self.file(name, 'key'), '-name', name,
                      '-passout', f'pass:{STORE_PASSWORD}', '-out', store)
        return store

    def trust_store(self):
        """The CA, as Java trusts it."""
        store = self.file(self.name, 'trust.p12')
        subprocess.run(['keytool', '-importcert', '-noprompt', '-alias', 'ca', '-file', self.ca, '-storetype', 'PKCS12', '-keystore', store,
                        '-storepass', STORE_PASSWORD], check=True, capture_output=True)
        return store

    def protect(self, name, passphrase):
        """NAME.locked.key: the same key, which wants a passphrase."""
        locked = self.file(name, 'locked.key')
        self._openssl('pkey', '-in', self.file(name, 'key'), '-aes256', '-passout', f'pass:{passphrase}', '-out', locked)
        return locked

    @staticmethod
    def _openssl(*arguments):
        ran = subprocess.run(['openssl', *map(str, arguments)], capture_output=True, text=True)
        if ran.returncode:
            raise RuntimeError(f'openssl {arguments[0]}: {ran.stderr}')
