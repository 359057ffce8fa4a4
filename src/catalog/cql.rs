//! Schema and identity of one node, over CQL.
//!
//! Owns: the connection, to the given contact point and to nothing else, and reading `system_schema` as it is there.
//! Does not own: what rows mean. Each pull connects anew, so nothing of it stays in the background.
//!
//! The driver is made for clusters: it looks for peers and connects to all. Here every address it learns is translated
//! to the contact point, and it may use only one of them. That also serves nodes whose `broadcast_rpc_address` can't be
//! reached from where the agent stands, which is on the node itself.

use std::future::Future;
use std::net::{SocketAddr, ToSocketAddrs};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use scylla::client::PoolSize;
use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::cluster::metadata::Peer;
use scylla::errors::{
    ConnectionError, ConnectionPoolError, ConnectionSetupRequestErrorKind, DbError, MetadataError, NewSessionError,
    TranslationError,
};
use scylla::policies::address_translator::{AddressTranslator, UntranslatedPeer};
use scylla::policies::host_filter::HostFilter;
use scylla::policies::retry::FallthroughRetryPolicy;
use scylla::response::{PagingState, PagingStateResponse};
use scylla::statement::{Consistency, Statement};
use scylla::value::{CqlValue, Row};
use serde_json::{Map, Value};

use super::tls::{Guard, Tls};
use super::{Identity, Pulled};

/// Where no port is given.
const DEFAULT_PORT: u16 = 9042;

/// For a connection, and for each request.
const TIMEOUT: Duration = Duration::from_secs(10);

/// For all of a pull: some ten requests, each of which may be near its own limit.
const PULL_TIMEOUT: Duration = Duration::from_secs(60);

/// Rows in one answer.
const PAGE_ROWS: i32 = 2000;

/// What the driver puts before the reason.
const DRIVERS_PREFIX: &str = "The pool is broken; Last connection failed with: ";

/// How often a pull begins again because the schema changed under it.
const ATTEMPTS: usize = 3;

/// The node to ask.
#[derive(Debug, Clone)]
pub struct Contact {
    /// `host:port`, `[v6 address]:port`, or a host with the default port.
    pub address: String,
    /// Who asks, where the node wants to know.
    pub login: Option<Login>,
    /// How the connection is encrypted, where it is.
    pub tls: Option<Tls>,
}

/// Credentials. The password is in a file so that it shows neither in arguments nor in the configuration.
#[derive(Debug, Clone)]
pub struct Login {
    /// User name.
    pub user: String,
    /// A file whose text, less a line end, is the password.
    pub password_file: PathBuf,
}

/// The node does not let us in, or its certificate is not one to trust: a person must do something about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(String);

/// A file of the login, or of TLS, is not what it should be: the node was not asked at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("read the files that it takes")]
pub struct Unusable;

/// Asks the node for its identity and all of its schema.
pub async fn pull(contact: &Contact) -> Result<Pulled> {
    let pulling = async {
        let node = Node::connect(contact).await?;
        node.pull().await
    };
    match tokio::time::timeout(PULL_TIMEOUT, pulling).await {
        Ok(pulled) => pulled,
        Err(_) => Err(anyhow!("no complete answer within {} s", PULL_TIMEOUT.as_secs())),
    }
    .with_context(|| format!("ask Cassandra at {} for its schema", contact.address))
}

/// The node's clock, milliseconds since 1970.
pub async fn clock(contact: &Contact) -> Result<i64> {
    let node = Node::connect(contact).await?;
    let rows = node.rows("SELECT now() AS now FROM system.local WHERE key = 'local'").await?;
    let now = rows.first().and_then(|row| row.get("now")?.as_str()).and_then(uuid_millis);
    now.context("the node gives no time")
}

/// The time in a version 1 UUID: every release has `now()`, not every one a function for its time.
fn uuid_millis(uuid: &str) -> Option<i64> {
    /// From the Gregorian reform to 1970, in 100 ns.
    const EPOCH: i64 = 0x01b2_1dd2_1381_4000;
    let mut parts = uuid.split('-');
    let (low, middle, high) = (parts.next()?, parts.next()?, parts.next()?.strip_prefix('1')?);
    let ticks = i64::from_str_radix(&format!("{high}{middle}{low}"), 16).ok()?;
    Some((ticks - EPOCH) / 10_000)
}

struct Node {
    session: Session,
}

impl Node {
    async fn connect(contact: &Contact) -> Result<Self> {
        let password = match &contact.login {
            Some(login) => Some((login.user.as_str(), password(login).context(Unusable)?)),
            None => None,
        };
        let host = split(&contact.address).map_or("", |(host, _)| host);
        let guard = contact.tls.as_ref().map(|tls| Guard::new(tls, host)).transpose().context(Unusable)?;
        let mut last = anyhow!("the name has no address");
        for address in resolve(&contact.address).await? {
            let mut builder = SessionBuilder::new()
                .known_node_addr(address)
                .tls_context(guard.as_ref().map(Guard::context))
                .address_translator(Arc::new(OnlyTo(address)))
                .host_filter(Arc::new(OneHost::default()))
                .pool_size(PoolSize::PerHost(NonZeroUsize::MIN))
                .disallow_shard_aware_port(true)
                .connection_timeout(TIMEOUT)
                .metadata_request_clientside_timeout(TIMEOUT)
                .default_execution_profile_handle(profile().into_handle())
                // The driver's picture of the schema has no table ids, and building it can fail on odd tables.
                .fetch_schema_metadata(false)
                .auto_await_schema_agreement(false)
                .driver_config_reporting(false);
            if let Some((user, password)) = &password {
                builder = builder.user(*user, password);
            }
            match builder.build().await {
                Ok(session) => return Ok(Self { session }),
                Err(error) => last = not_connected(error, guard.as_ref()).context(format!("connect to {address}")),
            }
        }
        Err(last)
    }

    async fn pull(&self) -> Result<Pulled> {
        for _ in 0..ATTEMPTS {
            let at_micros = jiff::Timestamp::now().as_microsecond();
            let local = self.local().await?;
            let document = self.system_schema().await?;
            // Tables are read one by one: without this the columns could be of another moment than their table.
            if self.local().await?.get("schema_version") != local.get("schema_version") {
                continue;
            }
            let document = Value::Object(document);
            let schema = serde_json::from_value(document.clone()).context("read the rows of system_schema")?;
            return Ok(Pulled { identity: identity(&local)?, schema, document, at_micros });
        }
        Err(anyhow!("its schema changed {ATTEMPTS} times while it was read: try again when DDL is over"))
    }

    async fn local(&self) -> Result<Map<String, Value>> {
        let columns = "cluster_name, host_id, release_version, schema_version";
        let mut rows = self.rows(&format!("SELECT {columns} FROM system.local WHERE key = 'local'")).await?;
        match rows.pop() {
            Some(Value::Object(local)) => Ok(local),
            _ => Err(anyhow!("system.local has no row")),
        }
    }

    /// Every table of `system_schema` that this release has, by name.
    async fn system_schema(&self) -> Result<Map<String, Value>> {
        let mut names = Vec::new();
        for row in
            self.rows("SELECT table_name FROM system_schema.tables WHERE keyspace_name = 'system_schema'").await?
        {
            let name = row.get("table_name").and_then(Value::as_str).unwrap_or_default();
            // It becomes part of a statement; Cassandra's own names are all of this kind.
            ensure!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "odd table system_schema.{name:?}");
            names.push(name.to_owned());
        }
        ensure!(
            names.iter().any(|name| name == "columns"),
            "no table system_schema.columns: is this Cassandra 3.0 or later?"
        );
        let mut document = Map::new();
        for name in names {
            let rows = self.rows(&format!("SELECT * FROM system_schema.{name}")).await?;
            document.insert(name, Value::Array(rows));
        }
        Ok(document)
    }

    /// All rows of a statement, each an object of all its columns.
    async fn rows(&self, statement: &str) -> Result<Vec<Value>> {
        self.pages(statement).await.with_context(|| statement.to_owned())
    }

    async fn pages(&self, statement: &str) -> Result<Vec<Value>> {
        let mut rows = Vec::new();
        let mut paging = PagingState::start();
        loop {
            let page = Statement::new(statement).with_page_size(PAGE_ROWS);
            let (result, next) = self.session.query_single_page(page, (), paging).await.map_err(told)?;
            let result = result.into_rows_result().map_err(told)?;
            let names: Vec<String> = result.column_specs().iter().map(|column| column.name().to_owned()).collect();
            for row in result.rows::<Row>().map_err(told)? {
                let values = row.map_err(told)?.columns;
                let members = names.iter().cloned().zip(values.into_iter().map(|v| v.map_or(Value::Null, json)));
                rows.push(Value::Object(members.collect()));
            }
            match next {
                PagingStateResponse::HasMorePages { state } => paging = state,
                PagingStateResponse::NoMorePages => return Ok(rows),
            }
        }
    }
}

/// Why there is no connection, as far as the driver lets it be known.
fn not_connected(error: NewSessionError, guard: Option<&Guard>) -> anyhow::Error {
    if let Some(objection) = guard.and_then(Guard::objection) {
        return Refused(objection).into();
    }
    if let NewSessionError::MetadataError(MetadataError::ConnectionPoolError(ConnectionPoolError::Broken {
        last_connection_error: ConnectionError::ConnectionSetupRequestError(setup),
        ..
    })) = &error
    {
        match &setup.error {
            ConnectionSetupRequestErrorKind::DbError(DbError::AuthenticationError, reason) => {
                return Refused(format!("{reason}; check the user and the file of its password")).into();
            }
            ConnectionSetupRequestErrorKind::MissingAuthentication => {
                return Refused("it wants a login: name a user and the file of its password".to_owned()).into();
            }
            _ => {}
        }
    }
    let told = told(error).to_string();
    let told = told.strip_prefix(DRIVERS_PREFIX).unwrap_or(&told);
    match guard {
        Some(_) if told.contains("SSL alert number") => Refused(format!(
            "{told}; it wants a certificate of ours that it trusts: check cassandra.tls_certificate and tls_key, and \
             Cassandra's trust store"
        ))
        .into(),
        Some(_) => anyhow!("{told}; is Cassandra up, and does this port speak TLS?"),
        None => {
            anyhow!(
                "{told}; is Cassandra up, and does this port speak plain CQL? If it wants TLS, set cassandra.tls_ca"
            )
        }
    }
}

/// The driver's errors repeat their causes' texts in their own: the innermost says it once.
fn told(error: impl std::error::Error) -> anyhow::Error {
    let mut innermost: &dyn std::error::Error = &error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    anyhow!("{innermost}")
}

fn profile() -> ExecutionProfile {
    ExecutionProfile::builder()
        // The node's own tables: one copy, on this node.
        .consistency(Consistency::One)
        .request_timeout(Some(TIMEOUT))
        .retry_policy(Arc::new(FallthroughRetryPolicy))
        .build()
}

fn identity(local: &Map<String, Value>) -> Result<Identity> {
    let text = |name: &str| {
        let value = local.get(name).and_then(Value::as_str);
        value.map(ToOwned::to_owned).with_context(|| format!("system.local has no {name}"))
    };
    Ok(Identity {
        cluster_name: text("cluster_name")?,
        host_id: text("host_id")?,
        release_version: text("release_version")?,
    })
}

/// A value in the notation of a schema file: timestamps in ms, blobs as `0x…`.
fn json(value: CqlValue) -> Value {
    match value {
        CqlValue::Boolean(b) => b.into(),
        CqlValue::TinyInt(n) => n.into(),
        CqlValue::SmallInt(n) => n.into(),
        CqlValue::Int(n) => n.into(),
        CqlValue::BigInt(n) => n.into(),
        CqlValue::Timestamp(ms) => ms.0.into(),
        // NaN has no JSON; as a number it would come out as null.
        CqlValue::Double(n) if n.is_finite() => n.into(),
        CqlValue::Float(n) if n.is_finite() => n.into(),
        CqlValue::Double(n) => n.to_string().into(),
        CqlValue::Float(n) => n.to_string().into(),
        CqlValue::Ascii(text) | CqlValue::Text(text) => text.into(),
        CqlValue::Uuid(id) => id.to_string().into(),
        CqlValue::Timeuuid(id) => id.to_string().into(),
        CqlValue::Inet(address) => address.to_string().into(),
        CqlValue::Blob(bytes) => hex(&bytes).into(),
        CqlValue::Empty => Value::Null,
        CqlValue::List(values) | CqlValue::Set(values) | CqlValue::Vector(values) => {
            values.into_iter().map(json).collect()
        }
        CqlValue::Tuple(values) => values.into_iter().map(|v| v.map_or(Value::Null, json)).collect(),
        CqlValue::Map(pairs) => map(pairs),
        CqlValue::UserDefinedType { fields, .. } => {
            Value::Object(fields.into_iter().map(|(name, v)| (name, v.map_or(Value::Null, json))).collect())
        }
        // Types that no release uses in `system_schema`.
        other => other.to_string().into(),
    }
}

/// An object where the keys are text, as all of `system_schema` are; else an array of pairs.
fn map(pairs: Vec<(CqlValue, CqlValue)>) -> Value {
    if pairs.iter().all(|(key, _)| matches!(key, CqlValue::Text(_) | CqlValue::Ascii(_))) {
        let member = |(key, value)| match key {
            CqlValue::Text(key) | CqlValue::Ascii(key) => Some((key, json(value))),
            _ => None,
        };
        Value::Object(pairs.into_iter().filter_map(member).collect())
    } else {
        pairs.into_iter().map(|(key, value)| Value::Array(vec![json(key), json(value)])).collect()
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::from("0x");
    for byte in bytes {
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

fn password(login: &Login) -> Result<String> {
    let path = login.password_file.display();
    let text = std::fs::read_to_string(&login.password_file).with_context(|| format!("read password file {path}"))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

async fn resolve(contact: &str) -> Result<Vec<SocketAddr>> {
    let (host, port) = split(contact).with_context(|| format!("{contact:?} is no host:port"))?;
    let host = host.to_owned();
    let resolving = tokio::task::spawn_blocking(move || (host.as_str(), port).to_socket_addrs());
    let addresses =
        tokio::time::timeout(TIMEOUT, resolving).await.context("resolve the name")??.context("resolve the name")?;
    Ok(addresses.collect())
}

/// Whether this is an address to connect to.
pub fn is_address(contact: &str) -> bool {
    split(contact).is_some()
}

/// Host and port; a bare IPv6 address has colons of its own, so it takes a port only in brackets.
fn split(contact: &str) -> Option<(&str, u16)> {
    let (host, port) = match contact.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
        }
        None => match contact.split_once(':') {
            Some((host, port)) if !port.contains(':') => (host, Some(port)),
            _ => (contact, None),
        },
    };
    let port = port.map_or(Some(DEFAULT_PORT), |port| port.parse().ok().filter(|port| *port != 0))?;
    (!host.is_empty()).then_some((host, port))
}

/// Every address that the driver learns is this one.
struct OnlyTo(SocketAddr);

impl AddressTranslator for OnlyTo {
    // What `async_trait` makes of the trait's `async fn`, without that crate.
    fn translate_address<'a, 'b, 'c>(
        &'a self,
        _: &'b UntranslatedPeer<'_>,
    ) -> Pin<Box<dyn Future<Output = Result<SocketAddr, TranslationError>> + Send + 'c>>
    where
        'a: 'c,
        'b: 'c,
    {
        Box::pin(std::future::ready(Ok(self.0)))
    }
}

/// Accepts the host it is asked about first and no other: they would all be the contact point.
#[derive(Default)]
struct OneHost(OnceLock<[u8; 16]>);

impl HostFilter for OneHost {
    fn accept(&self, peer: &Peer) -> bool {
        self.0.get_or_init(|| peer.host_id.into_bytes()) == peer.host_id.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contact_points() {
        let good = [
            ("localhost:9342", "localhost", 9342),
            ("10.0.0.1", "10.0.0.1", 9042),
            ("[::1]:9342", "::1", 9342),
            ("[::1]", "::1", 9042),
            ("::1", "::1", 9042),
            ("fe80::", "fe80::", 9042),
        ];
        for (contact, host, port) in good {
            assert_eq!(split(contact), Some((host, port)), "{contact}");
        }
        for contact in ["", ":9042", "host:", "host:0", "host:65536", "host:cql", "[::1]9042", "[]:1", "[::1]:"] {
            assert_eq!(split(contact), None, "{contact}");
        }
    }

    #[test]
    fn a_time_uuid_has_a_time() {
        assert_eq!(uuid_millis("13814000-1dd2-11b2-8000-000000000000"), Some(0));
        assert_eq!(uuid_millis("f9d2e6e0-5a3c-11ee-8c99-0242ac120002"), Some(1_695_492_843_095));
        assert_eq!(uuid_millis("f9d2e6e0-5a3c-41ee-8c99-0242ac120002"), None);
    }

    #[test]
    fn values_are_written_as_in_a_schema_file() {
        let text = |t: &str| CqlValue::Text(t.to_owned());
        for (value, expected) in [
            (CqlValue::Boolean(true), "true"),
            (CqlValue::Double(f64::NAN), "\"NaN\""),
            (CqlValue::Double(0.01), "0.01"),
            (CqlValue::Blob(vec![0, 0xab]), "\"0x00ab\""),
            (CqlValue::Timestamp(scylla::value::CqlTimestamp(i64::MAX)), "9223372036854775807"),
            (CqlValue::Set(vec![text("compound")]), "[\"compound\"]"),
            (CqlValue::Map(vec![(text("a"), CqlValue::Blob(vec![]))]), "{\"a\":\"0x\"}"),
            (CqlValue::Map(vec![(CqlValue::Int(1), CqlValue::Empty)]), "[[1,null]]"),
        ] {
            assert_eq!(json(value).to_string(), expected);
        }
    }

    #[tokio::test]
    async fn a_node_that_is_not_there_is_named() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let error = pull(&Contact { address: address.clone(), login: None, tls: None }).await.unwrap_err();
        assert!(
            format!("{error:#}")
                .starts_with(&format!("ask Cassandra at {address} for its schema: connect to {address}: "))
        );
    }
}
