//! What commands beside a running agent take from its configuration.
//!
//! Owns: the few values that they need, the node's identity and schema by the configured ways. Does not own: the
//! configuration.

use std::path::PathBuf;
use std::sync::Arc;

use cassandra_commitlog::Schema;
use cassandra_event::Settings;

use super::schema_of;
use crate::catalog::Pulled;
use crate::catalog::cql::{self, Contact};
use crate::cli::ConfigArgs;
use crate::config::{Config, Kafka};
use crate::exit::{Exit, Failure};
use crate::filter::Tables;
use crate::kafka::KafkaSettings;

/// An encoder's settings on a node of this cluster and host id.
pub(super) type EventSettings = Box<dyn Fn(&str, &str) -> Settings>;

/// What is configured.
pub(super) struct Configured {
    /// The state directory.
    pub(super) state: PathBuf,
    /// The agent's name.
    pub(super) agent: String,
    /// Cluster and host id, where they are typed.
    pub(super) node: Option<(String, String)>,
    /// The schema's file, if there is one.
    pub(super) schema: Option<PathBuf>,
    /// The node, if it is asked over CQL.
    pub(super) contact: Option<Contact>,
    /// Wanted tables.
    pub(super) tables: Tables,
    /// Where records go.
    pub(super) kafka: KafkaSettings,
    /// How events look.
    pub(super) events: EventSettings,
}

/// Reads the configuration.
pub(super) fn open(arguments: &ConfigArgs) -> Result<Configured, Failure> {
    let Config { cassandra, state, kafka, .. } = Config::load(arguments)?.config;
    let Kafka { settings, events, .. } = kafka;
    Ok(Configured {
        state: state.directory,
        agent: state.agent,
        node: cassandra.cluster.zip(cassandra.host_id),
        schema: cassandra.schema,
        contact: cassandra.contact,
        tables: cassandra.tables,
        kafka: settings,
        events: Box::new(move |cluster, host_id| events.settings(cluster, host_id)),
    })
}

impl Configured {
    /// Cluster and host id: the node's own words, or as typed where it can't be asked.
    pub(super) fn identity(&self) -> Result<(String, String), Failure> {
        let identity = self.pull().map(|pulled| (pulled.identity.cluster_name, pulled.identity.host_id));
        or_told(identity, self.node.clone().map(Ok), "cassandra.cluster and cassandra.host_id count instead")
    }

    /// Today's schema: the node's, or the file's where it can't be asked.
    pub(super) fn schema(&self) -> Result<Arc<Schema>, Failure> {
        let pulled = self.pull().map(|pulled| {
            let (schema, problems) = pulled.schema.resolve();
            for problem in problems {
                eprintln!("cassandra-cdc: {problem}");
            }
            Arc::new(schema)
        });
        or_told(pulled, self.schema.as_deref().map(schema_of), "cassandra.schema counts instead")
    }

    fn pull(&self) -> Result<Pulled, Failure> {
        let Some(contact) = &self.contact else {
            let text = "no node can be asked: set cassandra.contact, or cassandra.cluster, cassandra.host_id and \
                        cassandra.schema";
            return Err(Failure::text(Exit::Config, text));
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::io("start the CQL client", error))?;
        runtime.block_on(cql::pull(contact)).map_err(Failure::cassandra)
    }
}

/// What the node says, or else what is configured.
fn or_told<T>(asked: Result<T, Failure>, told: Option<Result<T, Failure>>, note: &str) -> Result<T, Failure> {
    match (asked, told) {
        (Err(failure), Some(told)) => {
            if matches!(failure.exit, Exit::Unreachable | Exit::Permission) {
                eprintln!("cassandra-cdc: {failure}; {note}");
            }
            told
        }
        (asked, _) => asked,
    }
}
