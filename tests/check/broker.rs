//! A Kafka broker that only talks: of its topics and their settings, and of who may come in. It takes no records.
//!
//! Owns: the requests that `check` makes, in versions of its own choice. An in-process broker of the client's library
//! knows nothing of settings, TLS or logins.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use openssl::ssl::SslAcceptor;

use crate::server::{Answer, Client, Rest, Server};

const METADATA: i16 = 3;
const SASL_HANDSHAKE: i16 = 17;
const API_VERSIONS: i16 = 18;
const INIT_PRODUCER_ID: i16 = 22;
const DESCRIBE_CONFIGS: i16 = 32;
const SASL_AUTHENTICATE: i16 = 36;

/// Key, and the versions that are understood; the first two are listed for what else they stand for.
const APIS: [(i16, i16, i16); 8] = [
    (0, 3, 7),
    (1, 4, 4),
    (METADATA, 0, 4),
    (SASL_HANDSHAKE, 0, 1),
    (API_VERSIONS, 0, 0),
    (INIT_PRODUCER_ID, 0, 1),
    (DESCRIBE_CONFIGS, 1, 1),
    (SASL_AUTHENTICATE, 0, 0),
];

const UNKNOWN_TOPIC: i16 = 3;
pub const TOPIC_AUTHORIZATION_FAILED: i16 = 29;
pub const CLUSTER_AUTHORIZATION_FAILED: i16 = 31;
const UNSUPPORTED_SASL_MECHANISM: i16 = 33;
const UNSUPPORTED_VERSION: i16 = 35;
const SASL_AUTHENTICATION_FAILED: i16 = 58;

/// A topic of 12 partitions.
#[derive(Clone)]
pub struct Topic {
    pub error: i16,
    pub replicas: i32,
    pub in_sync: i32,
    /// None: nobody may know.
    pub settings: Option<BTreeMap<String, String>>,
}

impl Topic {
    /// One that keeps what it takes.
    pub fn safe() -> Self {
        let safe = [
            ("min.insync.replicas", "2"),
            ("cleanup.policy", "delete"),
            ("retention.ms", "604800000"),
            ("max.message.bytes", "1048588"),
            ("unclean.leader.election.enable", "false"),
        ];
        let settings = safe.map(|(key, value)| (key.to_owned(), value.to_owned()));
        Self { error: 0, replicas: 3, in_sync: 3, settings: Some(settings.into()) }
    }

    pub fn with(mut self, key: &str, value: &str) -> Self {
        self.settings.get_or_insert_default().insert(key.to_owned(), value.to_owned());
        self
    }
}

/// What the broker says.
#[derive(Default)]
pub struct Says {
    pub topics: BTreeMap<String, Topic>,
    /// The error with which nobody gets a producer's id.
    pub no_producer: i16,
    /// The one login by PLAIN, if one is wanted.
    pub login: Option<(&'static str, &'static str)>,
}

pub struct Broker {
    says: Arc<Mutex<Says>>,
    server: Server,
}

impl Broker {
    pub fn start(says: Says, tls: Option<SslAcceptor>) -> Self {
        let says = Arc::new(Mutex::new(says));
        let server = Server::start(tls, {
            let says = Arc::clone(&says);
            move |client, port| serve(client, port, &says)
        });
        Self { says, server }
    }

    pub fn bootstrap(&self) -> String {
        self.server.address()
    }

    pub fn set(&self, topic: &str, now: Topic) {
        self.says.lock().unwrap().topics.insert(topic.to_owned(), now);
    }
}

fn serve(client: &mut dyn Client, port: u16, says: &Mutex<Says>) -> io::Result<()> {
    let mut is_in = says.lock().unwrap().login.is_none();
    loop {
        let mut length = [0; 4];
        client.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length) as usize;
        // What a broker says to a client that talks TLS, or anything else.
        if length > 1 << 20 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut request = vec![0; length];
        client.read_exact(&mut request)?;
        let mut rest = Rest(&request);
        let (key, version) = (rest.int16(), rest.int16());
        let mut answer = Answer::default();
        answer.0.extend(rest.take(4));
        if !is_in && ![API_VERSIONS, SASL_HANDSHAKE, SASL_AUTHENTICATE].contains(&key) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        if key == API_VERSIONS {
            api_versions(version, &mut answer);
        } else {
            let _client_id = rest.text();
            is_in |= answered(key, rest, port, &says.lock().unwrap(), &mut answer);
        }
        client.write_all(&[&(answer.0.len() as u32).to_be_bytes(), &answer.0[..]].concat())?;
        client.flush()?;
    }
}

fn api_versions(version: i16, answer: &mut Answer) {
    answer.int16(if version == 0 { 0 } else { UNSUPPORTED_VERSION }).count(APIS.len());
    for (key, least, most) in APIS {
        answer.int16(key).int16(least).int16(most);
    }
}

/// Says whether the client has just logged in.
fn answered(key: i16, mut rest: Rest<'_>, port: u16, says: &Says, answer: &mut Answer) -> bool {
    match key {
        METADATA => metadata(&mut rest, port, says, answer),
        DESCRIBE_CONFIGS => configs(&mut rest, says, answer),
        INIT_PRODUCER_ID => {
            let id = if says.no_producer == 0 { 7 } else { -1 };
            answer.int32(0).int16(says.no_producer).int64(id).int16(0);
        }
        SASL_HANDSHAKE => {
            let error = if rest.text() == "PLAIN" { 0 } else { UNSUPPORTED_SASL_MECHANISM };
            answer.int16(error).count(1).text("PLAIN");
        }
        SASL_AUTHENTICATE => {
            let (user, password) = says.login.expect("a login");
            let is_right = rest.bytes() == format!("\0{user}\0{password}").as_bytes();
            if is_right {
                answer.int16(0).int16(-1).bytes(b"");
            } else {
                answer.int16(SASL_AUTHENTICATION_FAILED);
                answer.text("Authentication failed: Invalid username or password").bytes(b"");
            }
            return is_right;
        }
        other => panic!("request {other}"),
    }
    false
}

fn metadata(rest: &mut Rest<'_>, port: u16, says: &Says, answer: &mut Answer) {
    let asked = rest.int32();
    let asked: Vec<&str> = (0..asked).map(|_| rest.text()).collect();
    answer.int32(0).count(1);
    answer.int32(1).text("127.0.0.1").int32(port.into()).int16(-1);
    answer.text("a-cluster").int32(1).count(asked.len());
    for name in asked {
        let topic = says.topics.get(name);
        let error = topic.map_or(UNKNOWN_TOPIC, |topic| topic.error);
        answer.int16(error).text(name).int8(0);
        let Some(topic) = topic.filter(|topic| topic.error == 0) else {
            answer.count(0);
            continue;
        };
        answer.count(12);
        for partition in 0..12 {
            answer.int16(0).int32(partition).int32(1);
            for count in [topic.replicas, topic.in_sync] {
                answer.int32(count);
                for broker in 1..=count {
                    answer.int32(broker);
                }
            }
        }
    }
}

fn configs(rest: &mut Rest<'_>, says: &Says, answer: &mut Answer) {
    let count = rest.int32();
    answer.int32(0).int32(count);
    for _ in 0..count {
        let kind = rest.take(1)[0];
        let name = rest.text();
        let asked = rest.int32();
        assert_eq!(asked, -1, "all settings are asked for");
        match says.topics.get(name).and_then(|topic| topic.settings.as_ref()) {
            None => {
                answer.int16(TOPIC_AUTHORIZATION_FAILED).int16(-1).int8(kind).text(name).count(0);
            }
            Some(settings) => {
                answer.int16(0).int16(-1).int8(kind).text(name).count(settings.len());
                for (key, value) in settings {
                    answer.text(key).text(value).int8(0).int8(1).int8(0).count(0);
                }
            }
        }
    }
}
