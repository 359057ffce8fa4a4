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
