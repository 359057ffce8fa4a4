//! Layers, refusals, and what is made of values.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::*;
use tempfile::TempDir;

/// A folder with a configuration file and a `cassandra.yaml`, and what else a test types.
struct Typed {
    folder: TempDir,
    set: Vec<String>,
    environment: Vec<(String, String)>,
}

impl Typed {
    fn new(document: &str, yaml: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("cassandra.yaml"), yaml).unwrap();
        fs::write(folder.path().join("c.toml"), document).unwrap();
        let yaml = format!("cassandra.yaml={}", folder.path().join("cassandra.yaml").display());
        Self { folder, set: vec![yaml], environment: Vec::new() }
    }

    fn set(mut self, text: &str) -> Self {
        self.set.push(text.to_owned());
        self
    }

    fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn load(&self) -> Result<Loaded, Failure> {
        let arguments = ConfigArgs { config: Some(self.path("c.toml")), set: self.set.clone() };
        Config::load_from(&arguments, self.environment.clone().into_iter())
    }

    fn config(&self) -> Config {
        self.load().unwrap_or_else(|failure| panic!("{failure}")).config
    }

    /// What it is refused with.
    fn refused(&self) -> String {
        let failure = self.load().unwrap_err();
        assert_eq!(failure.exit, Exit::Config, "{failure}");
        failure.to_string()
    }
}

const LEAST: &str = "[kafka]\nbootstrap = \"k:9092\"\n";

#[test]
fn bootstrap_alone_is_enough() {
    let loaded = Typed::new(LEAST, "").load().unwrap();
    let config = loaded.config;
    assert_eq!(config.cassandra.cdc_raw, Path::new("/var/lib/cassandra/cdc_raw"));
    assert_eq!(config.spool.directory, Path::new("/var/lib/cassandra/cdc_spool"));
    assert_eq!((config.spool.enabled, config.spool.max_bytes, config.spool.min_free), (false, 4 << 30, None));
    assert_eq!(config.state.directory, Path::new("/var/lib/cassandra-cdc"));
    assert_eq!(config.http, Some("127.0.0.1:9470".parse().unwrap()));
    assert_eq!(config.kafka.settings.queue_bytes, 64 << 20);
    assert_eq!(config.kafka.settings.lookup_timeout, Duration::from_secs(10));
    assert_eq!(config.kafka.events.dead_letter_topic, "cassandra.dead-letter");
    assert_eq!(config.kafka.events.settings("c", "h").topic.topic("ks", "t"), "cassandra.ks.t");
    assert!(config.cassandra.tables.is_empty() && config.cassandra.contact.is_none());
    let refused = Typed::new("", "").refused();
    assert!(refused.contains("kafka.bootstrap is not set"), "{refused}");
}

#[test]
fn the_stronger_layer_counts_and_is_the_origin() {
    let yaml = "cdc_raw_directory: /from/yaml\ncdc_total_space: 8GiB\ncdc_block_writes: false\ncluster_name: Shop\n";
    let document = format!("{LEAST}topic = \"file\"\nprefix = \"file\"\nunit = \"row\"\n");
    let typed = Typed::new(&document, yaml)
        .environment("CASSANDRA_CDC_KAFKA_TOPIC", "environment")
        .environment("CASSANDRA_CDC_KAFKA_PREFIX", "environment")
        .environment("CASSANDRA_CDC_KAFKA_LIBRDKAFKA_LINGER_MS", "7")
        .set("kafka.prefix=first")
        .set("kafka.prefix=last");
    let loaded = typed.load().unwrap();
    let of = |key: &str| {
        let setting = loaded.origins.iter().find(|setting| setting.key == key).unwrap();
        (setting.shown().to_owned(), setting.origin.clone())
    };
    assert_eq!(of("kafka.prefix"), ("last".into(), Origin::Set));
    assert_eq!(of("kafka.topic").1, Origin::Environment("CASSANDRA_CDC_KAFKA_TOPIC".into()));
    assert_eq!(of("kafka.unit"), ("row".into(), Origin::File(typed.path("c.toml"), 5)));
    assert_eq!(of("cassandra.cdc_raw"), ("/from/yaml".into(), Origin::Yaml(typed.path("cassandra.yaml"))));
    assert_eq!(of("spool.directory"), ("/from/cdc_spool".into(), Origin::Derived("cassandra.cdc_raw")));
    assert_eq!(of("kafka.format"), ("json".into(), Origin::Default));
    assert_eq!(of("kafka.librdkafka.linger.ms").0, "7");
    let config = &loaded.config;
    assert!(config.spool.enabled);
    assert_eq!(config.spool.max_bytes, 8 << 30);
    assert_eq!(config.cassandra.cluster.as_deref(), Some("Shop"));
}

#[test]
fn values_may_be_typed_in_every_layer() {
    let document = "[cassandra]\ntables = [\"shop.*\", \"!shop.secret\"]\non_done = \"move /done\"\n[kafka]\nbootstrap = \
                    [\"a:1\", \"b:2\"]\ncreate_topics = { partitions = 12, replication = 3 }\nheaders = []\n\
                    queue_messages = 5_000\n[kafka.librdkafka]\n\"linger.ms\" = 9\n[http]\nlisten = \"off\"\n";
    let mut in_file = Typed::new(document, "").config();
    let mut elsewhere = Typed::new("", "")
        .set("cassandra.tables=shop.*, !shop.secret")
        .set("cassandra.on_done=move /done")
        .set("kafka.bootstrap=a:1,b:2")
        .set("kafka.create_topics=12,3")
        .set("kafka.headers=[]")
        .set("kafka.queue_messages=5000")
        .set("kafka.librdkafka.linger.ms=9")
        .set("http.listen=off")
        .config();
    (in_file.cassandra.node.yaml, elsewhere.cassandra.node.yaml) = (None, None);
    assert_eq!(format!("{in_file:?}"), format!("{elsewhere:?}"));
    assert_eq!(in_file.cassandra.on_done, OnDone::Move("/done".into()));
    assert_eq!(in_file.http, None);
}

#[test]
fn unknown_keys_are_refused_with_line_and_suggestion() {
    for (document, line, words) in [
        ("[kafka]\nbootstrp = \"x\"\n", 2, "unknown key kafka.bootstrp: did you mean bootstrap?"),
        ("\n[kafak]\nbootstrap = \"x\"\n", 3, "did you mean kafka?"),
        ("bootstrap = \"x\"\n", 1, "did you mean kafka.bootstrap?"),
        ("[state]\ntables = []\n", 2, "did you mean cassandra.tables?"),
        ("[cassandra]\npassword = \"hunter2\"\n", 2, "did you mean password_file?"),
        ("kafka = 5\n", 1, "kafka is a section"),
        ("[log]\nlevel = 1979-05-27\n", 2, "can't be a date"),
        ("[log]\nlevel = \"info\n", 2, ""),
    ] {
        let refused = Typed::new(document, "").refused();
        assert!(refused.contains(&format!("c.toml:{line}: ")), "{refused}");
        assert!(refused.contains(words), "{refused}");
        assert!(!refused.contains("hunter2"), "{refused}");
    }
    let both = Typed::new("[kafka]\nbootstrp = \"x\"\nformt = \"x\"\n", "").refused();
    assert_eq!(both.lines().count(), 2, "{both}");
    let refused = Typed::new(LEAST, "").environment("CASSANDRA_CDC_KAFKA_TOPICS", "x").refused();
    assert!(refused.contains("CASSANDRA_CDC_KAFKA_TOPICS: ") && refused.contains("did you mean topic?"), "{refused}");
    assert!(Typed::new(LEAST, "").set("log.levle=x").refused().contains("did you mean level?"));
    // What a container platform makes of a service called cassandra-cdc.
    Typed::new(LEAST, "").environment("CASSANDRA_CDC_SERVICE_HOST", "10.0.0.1").config();
    Typed::new(LEAST, "").environment("CASSANDRA_CDC_PORT", "tcp://10.0.0.1:9470").config();
}

#[test]
fn values_that_cannot_work_are_refused_where_they_were_typed() {
    for (key, value, words) in [
        ("cassandra.cdc_raw", "cdc_raw", "absolute"),
        ("cassandra.contact", "host:port", "host:port"),
        ("cassandra.host_id", "6D194555-f6eb-41d0-c000-000000000001", "lower-case"),
        ("cassandra.read_to", "soon", "synced, marked, written"),
        ("cassandra.on_damage", "ignore", "hold, salvage"),
        ("cassandra.on_done", "move here", "absolute"),
        ("cassandra.on_done", "keep", "move DIR"),
        ("cassandra.tables", "shop", "keyspace.table"),
        ("cassandra.user", "cdc", "password_file"),
        ("cassandra.keystore", "/k", "keystore_password_file"),
        ("state.agent", "a/b", "letters"),
        ("spool.enabled", "maybe", "auto, true, false"),
        ("spool.directory", "/var/lib/cassandra/cdc_raw/spool", "inside cdc_raw"),
        ("spool.directory", "/var/lib/cassandra/x/../cdc_raw", ".."),
        ("spool.max_bytes", "4 gibberish", "4GiB"),
        ("kafka.prefix", "a/b", "kafka.topic"),
        ("kafka.topic", "{tabel}", "tabel"),
        ("kafka.format", "avro", "json, protobuf"),
        ("kafka.create_topics", "true", "partitions"),
        ("kafka.headers", "[\"id\"]", "no headers yet"),
        ("kafka.max_record_bytes", "1KiB", "4KiB"),
        ("kafka.queue_bytes", "1KiB", "largest record"),
        ("kafka.librdkafka.acks", "1", "always `all`"),
        ("http.listen", "localhost", "127.0.0.1:9470"),
        ("log.level", "loud=very=much", "directives"),
        ("log.format", "xml", "journald"),
    ] {
        let refused = Typed::new(LEAST, "").set(&format!("{key}={value}")).refused();
        assert!(refused.contains(words), "{key} = {value}: {refused}");
        assert!(refused.contains("--set: ") || refused.contains(key) || words == "kafka.topic", "{refused}");
    }
    let in_file = Typed::new(&format!("{LEAST}[kafka.librdkafka]\n\"acks\" = \"1\"\n"), "").refused();
    assert!(in_file.contains("c.toml:4: kafka.librdkafka.acks: "), "{in_file}");
    let sections = Typed::new("[log]\nformat = \"xml\"\n[state]\nagent = \"\"\n", "").refused();
    assert_eq!(sections.lines().count(), 3, "{sections}");
}

#[test]
fn secrets_come_from_files_and_are_never_shown() {
    for refused in [
        Typed::new(LEAST, "").set("kafka.librdkafka.sasl.password=hunter2").refused(),
        Typed::new(LEAST, "").environment("CASSANDRA_CDC_KAFKA_LIBRDKAFKA_SASL_PASSWORD", "hunter2").refused(),
        Typed::new(LEAST, "").set("kafka.librdkafka.ssl.key.password hunter2").refused(),
        Typed::new("[kafka.librdkafka]\n\"sasl.password\" = \"hunter2\n", "").refused(),
    ] {
        assert!(!refused.contains("hunter2"), "{refused}");
    }
    let typed = Typed::new(LEAST, "");
    fs::write(typed.path("kafka.properties"), "# comment\n\nsasl.password = hunter2\nsasl.username=cdc\n").unwrap();
    fs::write(typed.path("cassandra-password"), "hunter3\n").unwrap();
    let folder = typed.folder.path().display().to_string();
    let typed = typed.environment("CREDENTIALS_DIRECTORY", &folder).set("cassandra.contact=h").set("cassandra.user=u");
    let loaded = typed.load().unwrap();
    assert_eq!(loaded.config.kafka.settings.properties["sasl.password"], "hunter2");
    let login = loaded.config.cassandra.contact.as_ref().unwrap().login.as_ref().unwrap();
    assert_eq!(login.password_file, typed.path("cassandra-password"));
    let printed = format!("{loaded:?}");
    assert!(printed.contains("sasl.username") && !printed.contains("hunter"), "{printed}");
    fs::write(typed.path("kafka.properties"), "sasl.password hunter2").unwrap();
    let refused = typed.refused();
    assert!(refused.contains("kafka.properties:1: ") && !refused.contains("hunter"), "{refused}");
}

#[test]
fn tls_to_the_node_is_whole_or_refused() {
    let typed = |keys: &str| {
        Typed::new(&format!("[kafka]\nbootstrap = \"k:9092\"\n[cassandra]\ncontact = \"n:9042\"\n{keys}"), "")
    };
    let tls = |keys: &str| typed(keys).config().cassandra.contact.unwrap().tls;
    assert_eq!(tls(""), None);
    let trusting = tls("tls_ca = \"/ca.pem\"").unwrap();
    assert_eq!((trusting.ca_file, trusting.name, trusting.identity), ("/ca.pem".into(), None, None));
    let both = "tls_ca = \"/ca.pem\"\ntls_name = \"n.example\"\ntls_certificate = \"/c.pem\"\ntls_key = \"/k.pem\"";
    let both = tls(both).unwrap();
    assert_eq!(both.name.as_deref(), Some("n.example"));
    assert_eq!(both.identity.unwrap().key_file, Path::new("/k.pem"));
    for (keys, words) in [
        ("tls_name = \"n.example\"", "tls_ca"),
        ("tls_ca = \"/ca.pem\"\ntls_key = \"/k.pem\"", "go together"),
        ("tls_certificate = \"/c.pem\"\ntls_key = \"/k.pem\"", "tls_ca"),
        ("tls_ca = \"ca.pem\"", "absolute"),
        ("tls_ca = \"/ca.pem\"\ntls_name = \"10.0.0.1\"", "host's name"),
        ("tls_ca = \"/ca.pem\"\ntls_name = \"*.example\"", "host's name"),
    ] {
        let refused = typed(keys).refused();
        assert!(refused.contains(words), "{keys}: {refused}");
    }
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let typed = Typed::new(LEAST, "cdc_enabled: [").refused();
    assert!(typed.contains("cassandra.yaml"), "{typed}");
    let typed = Typed::new(LEAST, "");
    fs::remove_file(typed.path("c.toml")).unwrap();
    assert!(typed.refused().contains("c.toml"));
}

#[test]
fn the_sample_can_be_read_with_every_line_and_with_none() {
    assert_eq!(Typed::new(&sample(), "").config().kafka.settings.bootstrap, "localhost:9092");
    let typed = Typed::new("", "");
    let is_key = |line: &str| line.starts_with('#') && !line.starts_with("# ");
    let uncomment = |line: &str| if is_key(line) { line[1..].to_owned() } else { line.to_owned() };
    // A key file stands instead of the key store, and the Kafka client's own file need not exist here.
    let wanted = |line: &&str| !["#key_file", "#properties_file"].iter().any(|key| line.starts_with(key));
    let every: Vec<String> = sample().lines().filter(wanted).map(uncomment).collect();
    fs::write(typed.path("c.toml"), every.join("\n")).unwrap();
    let loaded = typed.load().unwrap_or_else(|failure| panic!("{failure}"));
    for key in keys::KEYS.iter().filter(|key| !key.name.ends_with("_file") || key.name.contains("password")) {
        let set = loaded.origins.iter().any(|setting| setting.key == key.name && setting.origin != Origin::Default);
        assert!(set, "{}", key.name);
    }
}

#[test]
fn samples_show_the_defaults() {
    // What differs says more than the default would.
    let differ = ["cassandra.tables", "spool.min_free", "kafka.headers"];
    for key in keys::KEYS.iter().filter(|key| !differ.contains(&key.name)) {
        if let Some(default) = key.default {
            assert_eq!(key.sample.trim_matches('"'), default, "{}", key.name);
        }
    }
}

#[test]
fn a_reload_takes_over_what_it_can_and_names_the_rest() {
    let before = Typed::new(LEAST, "").load().unwrap();
    let after = Typed::new(LEAST, "")
        .set("log.level=debug")
        .set("cassandra.tables=shop.*")
        .set("spool.max_bytes=1GiB")
        .set("kafka.librdkafka.linger.ms=9")
        .set("state.agent=other")
        .set("kafka.topic=x")
        .load()
        .unwrap();
    let reload = before.reload(&after);
    let own = |key: &&String| !key.ends_with("yaml");
    assert_eq!(
        reload.applied.iter().filter(own).collect::<Vec<_>>(),
        ["cassandra.tables", "kafka.librdkafka.linger.ms", "log.level", "spool.max_bytes"]
    );
    assert_eq!(reload.restart.iter().filter(own).collect::<Vec<_>>(), ["kafka.topic", "state.agent"]);
    assert_eq!(reload.config.log.level, "debug");
    assert_eq!(reload.config.spool.max_bytes, 1 << 30);
    assert_eq!(reload.config.kafka.settings.properties["linger.ms"], "9");
    assert_eq!(reload.config.state.agent, "default");
    let same = before.reload(&before);
    assert!(same.applied.is_empty() && same.restart.is_empty());
}

#[test]
fn a_new_producer_reads_its_file_of_properties_again_and_nothing_else() {
    let document = |level: &str| {
        format!(
            "[cassandra]\ncdc_raw = \"/c\"\n[kafka]\nbootstrap = \"b:1\"\n[kafka.librdkafka]\n\"linger.ms\" = {level}\n"
        )
    };
    let typed = Typed::new(&document("7"), "");
    let file = typed.path("kafka.properties");
    let typed = typed.set(&format!("kafka.properties_file={}", file.display()));
    fs::write(&file, "sasl.password=one\nsasl.password=two\nlinger.ms=9\n").unwrap();
    let kafka = typed.config().kafka;
    let now = |name: &str| kafka.settings_now().unwrap().properties.get(name).cloned();
    assert_eq!(kafka.settings_now().unwrap().properties, kafka.settings.properties);
    assert_eq!(now("sasl.password").as_deref(), Some("one"));
    fs::write(typed.path("c.toml"), document("1000")).unwrap();
    fs::write(&file, "# new\nsasl.password=three\nsasl.username=u\nlinger.ms=9\n").unwrap();
    assert_eq!(now("sasl.password").as_deref(), Some("three"));
    assert_eq!(now("sasl.username").as_deref(), Some("u"));
    assert_eq!(now("linger.ms").as_deref(), Some("7"), "what was typed elsewhere, as it is in force");
    // The configuration is wrong by now: that is no reason to go on with the old password.
    fs::write(typed.path("c.toml"), "nonsense").unwrap();
    assert_eq!(now("sasl.password").as_deref(), Some("three"));
    fs::write(&file, "hunter2\n").unwrap();
    let error = kafka.settings_now().unwrap_err().to_string();
    assert!(error.contains(":1") && !error.contains("hunter2"), "{error}");
    fs::remove_file(&file).unwrap();
    assert!(kafka.settings_now().is_err());
}
