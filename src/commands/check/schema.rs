//! Schema and identity, and tables whose changes never come.
//!
//! Owns: what is asked of the node or the schema file. Does not own: asking.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cassandra_commitlog::{Schema, SystemSchema};

use super::Report;
use crate::catalog::cql::{self, Contact};
use crate::catalog::{Pulled, bypassing, file, quoted};
use crate::config::{Cassandra, Config};
use crate::filter::Tables;

const CQL: &str = "CQL";
const IDENTITY: &str = "identity";
const SCHEMA: &str = "schema";
const TABLES: &str = "tables";
const CLOCK: &str = "clock";

/// Clocks of one machine that differ by more are not those of one machine.
const CLOCK_SKEW: Duration = Duration::from_secs(5);

/// What is known of the node.
#[derive(Default)]
pub(super) struct Known {
    /// Its cluster and host id.
    pub(super) identity: Option<(String, String)>,
    pub(super) schema: Option<Schema>,
}

pub(super) fn look(config: &Config, report: &mut Report) -> Known {
    let cassandra = &config.cassandra;
    let configured = cassandra.cluster.clone().zip(cassandra.host_id.clone());
    let pulled = cassandra.contact.as_ref().and_then(|contact| ask(cassandra, contact, report));
    if cassandra.contact.is_none() {
        identity(configured.as_ref(), report);
        if cassandra.schema.is_none() {
            let fix = "set cassandra.contact, or cassandra.schema";
            report.fail(SCHEMA, "neither a node to ask nor a schema file is configured", fix);
        }
    }
    let (identity, rows) = match pulled {
        Some(Pulled { identity, schema, .. }) => (Some((identity.cluster_name, identity.host_id)), Some(schema)),
        None => (configured, from_file(cassandra, report)),
    };
    Known { identity, schema: rows.map(|rows| of_rows(cassandra, &rows, report)) }
}

fn of_rows(cassandra: &Cassandra, rows: &SystemSchema, report: &mut Report) -> Schema {
    let (schema, problems) = rows.resolve();
    if let Some(problem) = problems.first() {
        let fix =
            "entries with these definitions are dead-lettered; look at the schema with `cassandra-cdc schema show`";
        report.warn(SCHEMA, format!("{} definitions can't be used: {problem}", problems.len()), fix);
    }
    tables(cassandra, &schema, report);
    durable(rows, &cassandra.tables, report);
    schema
}

fn ask(cassandra: &Cassandra, contact: &Contact, report: &mut Report) -> Option<Pulled> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime =
        runtime.map_err(|error| report.fail(CQL, error.to_string(), "look at the limits of this user")).ok()?;
    match runtime.block_on(cql::pull(contact)) {
        Ok(pulled) => {
            report.ok(CQL, format!("{}: {}", contact.address, pulled.identity));
            let (host_id, cluster) = (&pulled.identity.host_id, &pulled.identity.cluster_name);
            for (key, typed, its) in
                [("cassandra.host_id", &cassandra.host_id, host_id), ("cassandra.cluster", &cassandra.cluster, cluster)]
            {
                if let Some(typed) = typed.as_ref().filter(|typed| *typed != its) {
                    let found = format!("{key} is {typed:?}, and the node at {} says {its:?}", contact.address);
                    let fix = format!("set cassandra.contact to the node of this cdc_raw, or drop {key}");
                    report.fail(IDENTITY, found, fix);
                }
            }
            clock(runtime.block_on(cql::clock(contact)), report);
            Some(pulled)
        }
        Err(error) => {
            let text = format!("{error:#}");
            // Behind this it is advice for programmers.
            let told = text.find(". You can use SessionBuilder").unwrap_or(text.len());
            report.fail(CQL, text.get(..told).unwrap_or(&text), fix_of(&text));
            None
        }
    }
}

/// What to do about what the driver says; its own words are the only sign of the cause.
fn fix_of(error: &str) -> &'static str {
    let error = error.to_lowercase();
    let fixes = [
        ("password file", "correct cassandra.password_file, or let the user who runs the agent read it"),
        ("connection refused", "start the node, or set cassandra.contact to its rpc_address and native_transport_port"),
        ("resolve the name", "correct the host in cassandra.contact"),
        ("does not name", "set cassandra.tls_name to a name in the node's certificate, or connect to one"),
        ("has expired", "renew the node's certificate"),
        ("not valid yet", "set the clocks of the node and of whoever made its certificate"),
        ("node's certificate", "set cassandra.tls_ca to the certificate that signed the node's"),
        (
            "certificate of ours",
            "set cassandra.tls_certificate and cassandra.tls_key to what the node's trust store knows",
        ),
        ("wants a login", "set cassandra.user and cassandra.password_file"),
        ("are incorrect", "correct cassandra.user, and the password in the file of cassandra.password_file"),
        (
            "frame header",
            "set cassandra.tls_ca if the node wants TLS, or set cassandra.contact to its native_transport_port",
        ),
        ("unexpected eof", "drop cassandra.tls_ca, or set cassandra.contact to the port that talks TLS"),
        ("wrong version number", "drop cassandra.tls_ca, or set cassandra.contact to the port that talks TLS"),
    ];
    let found = fixes.iter().find(|(words, _)| error.contains(words)).map(|(_, fix)| *fix);
    found.unwrap_or(
        "check cassandra.contact, cassandra.user and its password, cassandra.tls_ca, and that the node is up",
    )
}

fn clock(node: anyhow::Result<i64>, report: &mut Report) {
    let ours = SystemTime::now().duration_since(UNIX_EPOCH).ok().and_then(|now| i64::try_from(now.as_millis()).ok());
    let (Ok(node), Some(ours)) = (node, ours) else {
        return report.warn(CLOCK, "the node did not give its time", "look again");
    };
    let skew = Duration::from_millis(ours.abs_diff(node));
    if skew > CLOCK_SKEW {
        let found = format!("the node's clock and ours differ by {} s", skew.as_secs());
        report.warn(CLOCK, found, "set both by NTP: lag and latency are differences of their times");
    } else {
        report.ok(CLOCK, "the node's and ours agree");
    }
}

fn identity(configured: Option<&(String, String)>, report: &mut Report) {
    match configured {
        Some((cluster, host_id)) => report.ok(IDENTITY, format!("host {host_id} of cluster {cluster:?}")),
        None => {
            let fix = "set cassandra.contact, or cassandra.host_id and cassandra.cluster";
            report.fail(IDENTITY, "without CQL, host id and cluster are not known", fix);
        }
    }
}

fn from_file(cassandra: &Cassandra, report: &mut Report) -> Option<SystemSchema> {
    let path = cassandra.schema.as_ref()?;
    match file::read(path) {
        Ok(rows) => {
            report.ok(SCHEMA, path.display().to_string());
            Some(rows)
        }
        Err(error) => {
            report.fail(SCHEMA, format!("{error:#}"), "write it anew: `cassandra-cdc schema pull -o FILE`");
            None
        }
    }
}

fn tables(cassandra: &Cassandra, schema: &Schema, report: &mut Report) {
    if let Some(pattern) = cassandra.tables.unmatched(schema.tables().iter()) {
        report.warn(TABLES, format!("no table matches {pattern:?}"), "correct cassandra.tables");
    }
    let cdc: Vec<_> = schema.tables().iter().filter(|table| table.cdc).collect();
    let wanted = cdc.iter().filter(|table| cassandra.tables.want(table)).count();
    if cdc.is_empty() {
        let fix = "switch it on: ALTER TABLE keyspace.table WITH cdc = true";
        report.warn(TABLES, "no table has cdc = true: nothing will be published", fix);
    } else if wanted == 0 {
        let found = format!("cassandra.tables leaves none of the {} tables with cdc = true", cdc.len());
        report.warn(TABLES, found, "change cassandra.tables so that it names those to be published");
    } else {
        report.ok(TABLES, format!("{wanted} to be published, of {} with cdc = true", cdc.len()));
    }
}

/// Tables in keyspaces that bypass the commit log.
fn durable(rows: &SystemSchema, wanted: &Tables, report: &mut Report) {
    for (keyspace, tables) in bypassing(rows, wanted) {
        let found = format!("cdc = true, but nothing reaches the commit log: {keyspace}.{{{}}}", tables.join(", "));
        report.fail(TABLES, found, format!("ALTER KEYSPACE {} WITH durable_writes = true", quoted(&keyspace)));
    }
}
