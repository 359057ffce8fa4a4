//! TLS to the node: whom we trust, whose name its certificate must bear, and who we say we are.
//!
//! Owns: the checks of a handshake, and the words for what they object to. Does not own: the connection (`cql`).
//!
//! The driver knows the node by its address only, and asks for that in the certificate. Certificates name hosts more
//! often than addresses, so where a host is meant its name is asked for instead.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use openssl::pkey::PKey;
use openssl::ssl::{SslConnector, SslConnectorBuilder, SslMethod, SslVerifyMode, SslVersion};
use openssl::x509::store::X509StoreBuilder;
use openssl::x509::verify::X509CheckFlags;
use openssl::x509::{X509, X509VerifyResult};
use scylla::client::session::OpenSsl010Config;

/// How a connection to the node is encrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// Certificates (PEM) that the node's own must descend from; the system's are not trusted beside them.
    pub ca_file: PathBuf,
    /// The host that the node's certificate must name. `None`: what the contact names, be it a host or an address.
    pub name: Option<String>,
    /// Who we are, where the node wants to know.
    pub identity: Option<ClientCertificate>,
}

/// A certificate of ours. Files, as all secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate and those between it and its CA, PEM.
    pub certificate_file: PathBuf,
    /// Its private key, PEM, without a passphrase.
    pub key_file: PathBuf,
}

/// `X509_V_ERR_*` of openssl/x509_vfy.h, of those that have words of their own.
const NOT_YET_VALID: i32 = 9;
const EXPIRED: i32 = 10;
const UNTRUSTED: [i32; 4] = [18, 19, 20, 21];
const OTHER_HOST: i32 = 62;
const OTHER_ADDRESS: i32 = 64;

/// A TLS context, and what it objected to last.
pub(super) struct Guard {
    context: OpenSsl010Config,
    objection: Arc<Mutex<Option<X509VerifyResult>>>,
    ca_file: PathBuf,
    expected: String,
}

impl Guard {
    /// For connections to this host or address.
    pub(super) fn new(tls: &Tls, contact: &str) -> Result<Self> {
        let expected = tls.name.as_deref().unwrap_or(contact);
        let mut builder = SslConnector::builder(SslMethod::tls())?;
        builder.set_min_proto_version(Some(SslVersion::TLS1_2))?;
        trust(&mut builder, &tls.ca_file)?;
        if let Some(identity) = &tls.identity {
            identify(&mut builder, identity)?;
        }
        // OpenSSL takes no name for any name, and one that begins with a dot for all below it.
        ensure!(!expected.is_empty() && !expected.starts_with('.'), "{expected:?} is no host's name");
        let by_name = expected.parse::<IpAddr>().is_err();
        if by_name {
            let wanted = builder.verify_param_mut();
            wanted.set_hostflags(X509CheckFlags::NO_PARTIAL_WILDCARDS);
            wanted.set_host(expected)?;
        }
        let objection = Arc::new(Mutex::new(None));
        let last = Arc::clone(&objection);
        builder.set_verify_callback(SslVerifyMode::PEER, move |good, chain| {
            // The driver asks for the address in any case; the host's name was asked for before, and is enough.
            if good || (by_name && chain.error().as_raw() == OTHER_ADDRESS) {
                return true;
            }
            *last.lock().unwrap_or_else(PoisonError::into_inner) = Some(chain.error());
            false
        });
        let context = OpenSsl010Config::new(builder);
        Ok(Self { context, objection, ca_file: tls.ca_file.clone(), expected: expected.to_owned() })
    }

    pub(super) fn context(&self) -> OpenSsl010Config {
        self.context.clone()
    }

    /// Why the node's certificate was not taken, and what to do; `None`: it was, or none came.
    pub(super) fn objection(&self) -> Option<String> {
        let objection = (*self.objection.lock().unwrap_or_else(PoisonError::into_inner))?;
        let expected = &self.expected;
        Some(match objection.as_raw() {
            EXPIRED => "the node's certificate has expired: have it renewed".to_owned(),
            NOT_YET_VALID => "the node's certificate is not valid yet: look at the clocks".to_owned(),
            raw if UNTRUSTED.contains(&raw) => format!(
                "the node's certificate does not descend from those in {}: put its CA there ({objection})",
                self.ca_file.display()
            ),
            OTHER_HOST | OTHER_ADDRESS => format!(
                "the node's certificate does not name {expected}: connect to a name that it has, or say which it has \
                 (cassandra.tls_name)"
            ),
            _ => format!("the node's certificate is refused: {objection}"),
        })
    }
}

fn trust(builder: &mut SslConnectorBuilder, ca_file: &Path) -> Result<()> {
    let path = ca_file.display();
    let pem = fs::read(ca_file).with_context(|| format!("read CA file {path}"))?;
    let certificates = X509::stack_from_pem(&pem).with_context(|| format!("read CA file {path}"))?;
    ensure!(!certificates.is_empty(), "CA file {path} has no certificate in PEM");
    let mut store = X509StoreBuilder::new()?;
    for certificate in certificates {
        store.add_cert(certificate)?;
    }
    builder.set_cert_store(store.build());
    Ok(())
}

fn identify(builder: &mut SslConnectorBuilder, identity: &ClientCertificate) -> Result<()> {
    let (certificate, key) = (&identity.certificate_file, &identity.key_file);
    // What is wrong with a key is told without OpenSSL's words: they may quote it.
    let pem = fs::read(key).with_context(|| format!("read key file {}", key.display()))?;
    let private = PKey::private_key_from_pem_passphrase(&pem, b"").ok();
    let private = private
        .with_context(|| format!("key file {} holds no private key in PEM without a passphrase", key.display()))?;
    builder
        .set_certificate_chain_file(certificate)
        .with_context(|| format!("read certificate file {}", certificate.display()))?;
    let fits = builder.set_private_key(&private).and_then(|()| builder.check_private_key()).is_ok();
    ensure!(fits, "{} is not the key of the certificate in {}", key.display(), certificate.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use openssl::asn1::Asn1Time;
    use openssl::ec::{EcGroup, EcKey};
    use openssl::hash::MessageDigest;
    use openssl::nid::Nid;
    use openssl::pkey::Private;
    use openssl::ssl::SslAcceptor;
    use openssl::x509::X509Name;
    use openssl::x509::extension::SubjectAlternativeName;

    use super::super::cql::{self, Contact, Refused};
    use super::*;

    /// A certificate for this host, or for this address, that is its own CA.
    fn certificate(host: Option<&str>, address: Option<&str>) -> (X509, PKey<Private>) {
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
        let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
        let mut name = X509Name::builder().unwrap();
        name.append_entry_by_text("CN", "node").unwrap();
        let name = name.build();
        let mut builder = X509::builder().unwrap();
        builder.set_version(2).unwrap();
        builder.set_subject_name(&name).unwrap();
        builder.set_issuer_name(&name).unwrap();
        builder.set_pubkey(&key).unwrap();
        builder.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
        builder.set_not_after(&Asn1Time::days_from_now(1).unwrap()).unwrap();
        let mut names = SubjectAlternativeName::new();
        if let Some(host) = host {
            names.dns(host);
        }
        if let Some(address) = address {
            names.ip(address);
        }
        let names = names.build(&builder.x509v3_context(None, None)).unwrap();
        builder.append_extension(names).unwrap();
        builder.sign(&key, MessageDigest::sha256()).unwrap();
        (builder.build(), key)
    }

    /// What becomes of a connection to a server with this certificate, which hangs up behind the handshake: the objection
    /// to its certificate, or none.
    fn objection(server: &(X509, PKey<Private>), ca: &X509, host: &str, name: Option<&str>) -> Option<String> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls()).unwrap();
        acceptor.set_certificate(&server.0).unwrap();
        acceptor.set_private_key(&server.1).unwrap();
        let acceptor = acceptor.build();
        thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            drop(acceptor.accept(stream));
        });
        let folder = tempfile::tempdir().unwrap();
        let ca_file = folder.path().join("ca.pem");
        fs::write(&ca_file, ca.to_pem().unwrap()).unwrap();
        let tls = Tls { ca_file, name: name.map(str::to_owned), identity: None };
        let contact = Contact { address: format!("{host}:{port}"), login: None, tls: Some(tls) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let error = runtime.block_on(cql::pull(&contact)).unwrap_err();
        error.downcast_ref::<Refused>().map(ToString::to_string)
    }

    #[test]
    fn the_name_that_was_asked_for_must_be_in_the_certificate_and_no_other() {
        let (named, addressed) =
            (certificate(Some("node.example"), None), certificate(Some("node.example"), Some("127.0.0.1")));
        for (server, name, wanted) in [
            (&named, Some("node.example"), None),
            (&named, Some("other.example"), Some("does not name other.example")),
            (&named, None, Some("does not name 127.0.0.1")),
            (&addressed, None, None),
            (&addressed, Some("node.example"), None),
            (&addressed, Some("other.example"), Some("does not name other.example")),
        ] {
            let told = objection(server, &server.0, "127.0.0.1", name);
            match wanted {
                None => assert_eq!(told, None, "{name:?}"),
                Some(words) => assert!(told.as_ref().is_some_and(|told| told.contains(words)), "{name:?}: {told:?}"),
            }
        }
        let stranger = certificate(Some("node.example"), None);
        let told = objection(&named, &stranger.0, "127.0.0.1", Some("node.example")).unwrap();
        assert!(told.contains("does not descend from") && told.contains("ca.pem"), "{told}");
    }
}
