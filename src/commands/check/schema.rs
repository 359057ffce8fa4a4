//! Schema and identity, and tables whose changes never come.
//!
//! Owns: what is asked of the node or the schema file. Does not own: asking.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cassandra_commitlog::{Schema, SystemSchema};

use super::Report;
use crate::catalog::cql::{self, Contact};
use crate::catalog::file;
use crate::config::{Cassandra, Config};

const CQL: &str = "CQL";
const IDENTITY: &str = "identity";
const SCHEMA: &str = "schema";
const TABLES: &str = "tables";
const CLOCK: &str = "clock";

/// Clocks of one machine that differ by more are not those of one machine.
const CLOCK_SKEW: Duration = Duration::from_secs(5);

/// Gives the schema, if there is one.
pub(super) fn look(config: &Config, report: &mut Report) -> Option<Schema> {
    let cassandra = &config.cassandra;
    let rows = match &cassandra.contact {
        Some(contact) => ask(cassandra, contact, report).or_else(|| from_file(cassandra, report)),
        None => {
            identity(cassandra, report);
            let rows = from_file(cassandra, report);
            if cassandra.schema.is_none() {
                let fix = "set cassandra.contact, or cassandra.schema";
                report.fail(SCHEMA, "neither a node to ask nor a schema file is configured", fix);
            }
            rows
        }
    }?;
    let (schema, problems) = rows.resolve();
    if let Some(problem) = problems.first() {
        let fix =
            "entries with these definitions are dead-lettered; look at the schema with `cassandra-cdc schema show`";
        report.warn(SCHEMA, format!("{} definitions can't be used: {problem}", problems.len()), fix);
    }
    tables(cassandra, &schema, report);
    durable(&rows, &schema, report);
    Some(schema)
}

fn ask(cassandra: &Cassandra, contact: &Contact, report: &mut Report) -> Option<SystemSchema> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime =
        runtime.map_err(|error| report.fail(CQL, error.to_string(), "look at the limits of this user")).ok()?;
    match runtime.block_on(cql::pull(contact)) {
        Ok(pulled) => {
            report.ok(CQL, format!("{}: {}", contact.address, pulled.identity));
            let (host_id, cluster) = (&pulled.identity.host_id, &pulled.identity.cluster_name);
            let differs =
                |configured: &Option<String>, node: &str| configured.as_deref().is_some_and(|text| text != node);
            if differs(&cassandra.host_id, host_id) || differs(&cassandra.cluster, cluster) {
                let fix =
                    "is the contact the node of this cdc_raw? correct cassandra.contact, or drop host_id and cluster";
                report.fail(IDENTITY, "the node is another than cassandra.host_id and cassandra.cluster say", fix);
            }
            clock(runtime.block_on(cql::clock(contact)), report);
            Some(pulled.schema)
        }
        Err(error) => {
            let fix =
                "check cassandra.contact, cassandra.user and its password, cassandra.tls_ca, and that the node is up";
            report.fail(CQL, format!("{error:#}"), fix);
            None
        }
    }
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

fn identity(cassandra: &Cassandra, report: &mut Report) {
    match (&cassandra.host_id, &cassandra.cluster) {
        (Some(host_id), Some(cluster)) => report.ok(IDENTITY, format!("host {host_id} of cluster {cluster:?}")),
        _ => {
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
    if wanted == 0 {
        let found =
            format!("none is to be published: {} have cdc = true, cassandra.tables leaves 0 of them", cdc.len());
        report.warn(TABLES, found, "ALTER TABLE … WITH cdc = true, or change cassandra.tables");
    } else {
        report.ok(TABLES, format!("{wanted} to be published, of {} with cdc = true", cdc.len()));
    }
}

/// Tables in keyspaces that bypass the commit log: Cassandra takes `cdc = true` there without a word.
fn durable(rows: &SystemSchema, schema: &Schema, report: &mut Report) {
    let bypass: BTreeSet<&str> =
        rows.keyspaces.iter().filter(|row| !row.durable_writes).map(|row| row.keyspace_name.as_str()).collect();
    for table in schema.tables().iter().filter(|table| table.cdc && bypass.contains(table.keyspace.as_str())) {
        let found =
            format!("{}.{} has cdc = true, but nothing of it reaches the commit log", table.keyspace, table.name);
        report.fail(TABLES, found, format!("ALTER KEYSPACE {} WITH durable_writes = true", table.keyspace));
    }
}
