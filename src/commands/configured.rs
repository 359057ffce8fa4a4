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
use crate::config::Config;
use crate::exit::{Exit, Failure};
use crate::filter::Tables;
use crate::kafka::KafkaSettings;

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
    /// How events of a cluster and host look.
    pub(super) events: Box<dyn Fn(&str, &str) -> Settings>,
}

/// Reads the configuration.
pub(super) fn open(arguments: &ConfigArgs) -> Result<Configured, Failure> {
    let Config { cassandra, state, kafka, .. } = Config::load(arguments)?.config;
    let events = kafka.events;
    Ok(Configured {
        state: state.directory,
        agent: state.agent,
        node: cassandra.cluster.zip(cassandra.host_id),
        schema: cassandra.schema,
        contact: cassandra.contact,
        tables: cassandra.tables,
        kafka: kafka.settings,
        events: Box::new(move |cluster, host_id| events.settings(cluster, host_id)),
    })
}

impl Configured {
    /// Cluster and host id: as typed, or the node's own words.
    pub(super) fn identity(&self) -> Result<(String, String), Failure> {
        match &self.node {
            Some(node) => Ok(node.clone()),
            None => self.pull().map(|pulled| (pulled.identity.cluster_name, pulled.identity.host_id)),
        }
    }

    /// Today's schema: the file's, or the node's.
    pub(super) fn schema(&self) -> Result<Arc<Schema>, Failure> {
        if let Some(path) = &self.schema {
            return schema_of(path);
        }
        let (schema, problems) = self.pull()?.schema.resolve();
        for problem in problems {
            eprintln!("cassandra-cdc: {problem}");
        }
        Ok(Arc::new(schema))
    }

    fn pull(&self) -> Result<Pulled, Failure> {
        let Some(contact) = &self.contact else {
            let text = "set cassandra.contact, so that the node can be asked; or cassandra.cluster, cassandra.host_id and \
                        cassandra.schema";
            return Err(Failure::text(Exit::Config, text));
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::io("start the CQL client", error))?;
        runtime.block_on(cql::pull(contact)).map_err(|error| Failure::new(Exit::Unreachable, error))
    }
}
