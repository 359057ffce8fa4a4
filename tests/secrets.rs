//! Secrets: canaries in every place where a secret may be, looked for in everything that the program shows; and the modes
//! of the files that it makes, under a umask that takes nothing away.
//!
//! Does not own: logins that a real broker or node refuses (`tests/live/security.py`, which looks for its secrets too).

mod support;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cassandra_cdc::cli::ConfigArgs;
use cassandra_cdc::config::Config;
use rustix::process::{Pid, Signal, kill_process};
use support::kafka::Kafka;
use support::{BINARY, Laid, Ran, program};

/// What every canary begins with; each place has one of its own behind it.
const CANARY: &str = "canary-7f3a";
const HOST: &str = "6f1c0000-0000-4000-8000-000000000001";
const TABLES: [&str; 4] = ["customers", "inventory", "orders", "sessions"];

/// Fails with the place, and what is around the secret, if there is one.
#[track_caller]
fn clean(place: &str, shown: &[u8]) {
    let text = String::from_utf8_lossy(shown);
    if let Some(at) = text.find(CANARY) {
        let around: String = text[at.saturating_sub(200)..].chars().take(300).collect();
        panic!("{place} shows a secret: {around}");
    }
}

#[test]
#[should_panic(expected = "shows a secret")]
fn a_canary_is_found() {
    clean("this", format!("password=\"{CANARY}-x\"").as_bytes());
}

/// An agent's whole surroundings, a secret in every file that may hold one.
struct Place {
    laid: Laid,
    kafka: Kafka,
    address: SocketAddr,
}

impl Place {
    fn new() -> Self {
        let topics = TABLES.iter().map(|table| format!("cassandra.shop.{table}"));
        let kafka = Kafka::with(topics.chain(["cassandra.dead-letter".to_owned()]));
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let place = Self { laid: Laid::own("4.1-demo"), kafka, address };
        let credentials = place.laid.file("credentials");
        fs::create_dir(&credentials).unwrap();
        place.properties("first");
        fs::write(credentials.join("cassandra-password"), format!("{CANARY}-cassandra\n")).unwrap();
        fs::write(credentials.join("keystore-password"), format!("{CANARY}-keystore\n")).unwrap();
        place.configure("");
        place
    }

    /// Accepted by librdkafka, and of no use to a broker without TLS and SASL.
    fn properties(&self, generation: &str) {
        let secrets = ["sasl.password", "ssl.key.password", "ssl.keystore.password", "ssl.key.pem"];
        let mut lines: Vec<String> = secrets.map(|name| format!("{name}={CANARY}-{generation}-{name}")).into();
        lines.push("sasl.username=cdc".to_owned());
        fs::write(self.laid.file("credentials/kafka.properties"), lines.join("\n")).unwrap();
    }

    /// With more lines below `[kafka.librdkafka]`.
    fn configure(&self, librdkafka: &str) {
        let text = format!(
            "[cassandra]\nyaml = \"/dev/null\"\ncdc_raw = {:?}\ncluster = \"c\"\nhost_id = {HOST:?}\nschema = {:?}\n\
             contact = \"127.0.0.1:1\"\nuser = \"cdc\"\non_damage = \"salvage\"\n\
             [state]\ndirectory = {:?}\n[spool]\nenabled = true\n[kafka]\nbootstrap = {:?}\n[http]\nlisten = \"{}\"\n\
             [kafka.librdkafka]\n\"linger.ms\" = 3\n\"sasl.oauthbearer.config\" = \"{CANARY}-typed\"\n{librdkafka}\n",
            self.laid.raw(),
            self.laid.schema,
            self.laid.file("state"),
            self.kafka.bootstrap(),
            self.address,
        );
        fs::write(self.config(), text).unwrap();
    }

    fn config(&self) -> PathBuf {
        self.laid.file("cassandra-cdc.toml")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = program();
        command.args(arguments).arg("--config").arg(self.config());
        command.env("CASSANDRA_CDC_NO_TOPIC_LIMITS", "1").env("CREDENTIALS_DIRECTORY", self.laid.file("credentials"));
        command
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        let ran: Ran = self.command(arguments).output().unwrap().into();
        clean(&arguments.join(" "), &ran.out);
        clean(&arguments.join(" "), ran.err.as_bytes());
        ran
    }

    /// What the service says at this path; `None`: nothing yet.
    fn ask(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(self.address).ok()?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {}\r\n\r\n", self.address).ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        clean(path, text.as_bytes());
        Some(text)
    }

    /// Until the service says so at this path.
    #[track_caller]
    fn wait(&self, path: &str, good: impl Fn(&str) -> bool) {
        let patience = Instant::now() + Duration::from_secs(60);
        loop {
            match self.ask(path) {
                Some(text) if good(&text) => return,
                text => assert!(Instant::now() < patience, "{path}: {text:?}"),
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// A metric of this name above this number.
fn above(name: &'static str, than: f64) -> impl Fn(&str) -> bool {
    move |text| {
        let of_name = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
        let values = text.lines().filter(of_name).filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
        values.sum::<f64>() > than
    }
}

/// The service, until this value goes.
struct Service(Child);

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_running_service_shows_no_secret_in_any_form_at_any_level() {
    for format in ["text", "json"] {
        let place = Place::new();
        let told = place.laid.file("told");
        let mut command = place.command(&["run", "--set", "log.level=trace"]);
        command.args(["--set", &format!("log.format={format}"), "--set", "kafka.librdkafka.debug=all"]);
        command.stdout(File::create(&told).unwrap()).stderr(File::options().append(true).open(&told).unwrap());
        let mut service = Service(command.spawn().unwrap());
        place.wait("/metrics", above("cassandra_cdc_events_published_total", 50.0));
        clean("argv", &fs::read(format!("/proc/{}/cmdline", service.0.id())).unwrap());
        clean("environ", &fs::read(format!("/proc/{}/environ", service.0.id())).unwrap());
        // The same file with other secrets, and a file that is wrong: both are read by a running agent.
        place.properties("second");
        place.configure("\"linger.ms.\" = 4");
        kill_process(Pid::from_child(&service.0), Signal::HUP).unwrap();
        place.configure("\"socket.keepalive.enable\" = \"true\"");
        kill_process(Pid::from_child(&service.0), Signal::HUP).unwrap();
        place.wait("/metrics", above("cassandra_cdc_producer_rebuilds_total", 0.0));
        for path in ["/statusz", "/metrics", "/readyz", "/livez", "/nothing"] {
            assert!(
                place.ask(path).is_some_and(|text| text.contains("HTTP/1.0 ") || text.contains("HTTP/1.1 ")),
                "{path}"
            );
        }
        place.run(&["status"]);
        kill_process(Pid::from_child(&service.0), Signal::TERM).unwrap();
        assert_eq!(service.0.wait().unwrap().code(), Some(0));
        let said = fs::read(&told).unwrap();
        assert!(String::from_utf8_lossy(&said).contains("librdkafka"), "its log is looked through too");
        clean(&format!("the log as {format}"), &said);
        for path in below(&place.laid.file("state")) {
            clean(&path.display().to_string(), &fs::read(&path).unwrap_or_default());
        }
    }
}

#[test]
fn commands_that_show_the_configuration_show_that_a_secret_is_there_and_not_which() {
    let place = Place::new();
    for arguments in [&["config", "show"][..], &["config", "show", "--effective"]] {
        let shown = place.run(arguments).expect(0);
        for property in ["sasl.password", "ssl.key.password", "ssl.key.pem", "sasl.oauthbearer.config"] {
            let line =
                shown.lines().into_iter().find(|line| line.contains(property)).unwrap_or_else(|| panic!("{property}"));
            assert!(line.contains("********"), "{line}");
        }
    }
    place.run(&["config", "validate"]).expect(0);
    // Fails, because nobody answers CQL.
    assert!(place.run(&["check"]).expect(1).text().contains("Kafka"));
    place.run(&["check", "-o", "json"]).expect(1);
    place.run(&["state", "show"]);
}

#[test]
fn secrets_on_the_command_line_and_in_the_environment_are_refused_and_not_repeated() {
    let place = Place::new();
    let secret = format!("kafka.librdkafka.sasl.password={CANARY}");
    let set = place.run(&["config", "validate", "--set", &secret]);
    assert_eq!(set.code, Some(78), "{}", set.err);
    for command in [&["config", "validate"][..], &["run", "--once"], &["status"]] {
        let mut typed = place.command(command);
        typed.env("CASSANDRA_CDC_KAFKA_LIBRDKAFKA_SASL_PASSWORD", CANARY);
        let ran: Ran = typed.output().unwrap().into();
        assert_eq!(ran.code, Some(78), "{}", ran.err);
        assert!(ran.err.contains("kafka.properties_file"), "{}", ran.err);
        clean("an environment's error", ran.err.as_bytes());
    }
    let base = args!["replay", "--bootstrap", "127.0.0.1:1", place.laid.raw()];
    for property in
        ["sasl.password=", "ssl.key.pem=", "ssl.key.password=", "sasl.oauthbearer.client.secret=", "sasl.password "]
    {
        let ran: Ran = program().args(&base).args(["-X", &format!("{property}{CANARY}")]).output().unwrap().into();
        assert_eq!(ran.code, Some(2), "{}", ran.err);
        clean("an argument's error", ran.err.as_bytes());
    }
}

/// Files that are wrong at the very place of a secret.
#[test]
fn what_is_wrong_with_a_file_of_secrets_is_said_without_them() {
    let place = Place::new();
    let properties = place.laid.file("credentials/kafka.properties");
    for (text, code) in [
        (format!("sasl.password {CANARY}"), 78),
        (format!("security.protocol=ssl\nssl.key.pem={CANARY}"), 78),
        (format!("security.protocol=ssl\nssl.ca.pem=x\nssl.key.password={CANARY}"), 78),
        (format!("no.such.property={CANARY}"), 78),
        (format!("sasl.mechanism={CANARY}\nsecurity.protocol=sasl_plaintext"), 78),
        (format!("acks={CANARY}"), 78),
    ] {
        fs::write(&properties, &text).unwrap();
        let ran: Ran = place.command(&["run", "--once"]).output().unwrap().into();
        assert_eq!(ran.code, Some(code), "{text}: {}", ran.err);
        // A mechanism is no secret, and a name that nobody knows may be one: only the latter's value is kept back.
        if !text.starts_with("sasl.mechanism") {
            clean(&text.replace(CANARY, "…"), ran.err.as_bytes());
        }
    }
    place.properties("again");
    fs::write(place.config(), format!("[kafka.librdkafka]\n\"sasl.password\" = \"{CANARY}\n")).unwrap();
    assert_eq!(place.run(&["config", "validate"]).code, Some(78));

    let encrypted = Laid::own("4.1-encrypted");
    let password = encrypted.file("wrong-password");
    fs::write(&password, CANARY).unwrap();
    let mut arguments: Vec<OsString> = encrypted.replay_of(&encrypted.raw());
    let at = arguments.iter().position(|argument| argument == "--keystore-password-file").unwrap();
    arguments[at + 1] = password.into();
    let ran: Ran = program().args(arguments).args(["--sink", "stdout"]).output().unwrap().into();
    assert_eq!(ran.code, Some(78), "{}", ran.err);
    clean("a wrong key store password", ran.err.as_bytes());
}

/// A panic's text, or a log line, may come to show any value: those that hold secrets show themselves without them.
#[test]
fn the_debug_form_of_a_configuration_holds_no_secret() {
    let place = Place::new();
    let arguments = ConfigArgs { config: Some(place.config()), set: Vec::new() };
    let credentials = place.laid.file("credentials").display().to_string();
    let loaded =
        Config::load_from(&arguments, [("CREDENTIALS_DIRECTORY".to_owned(), credentials)].into_iter()).unwrap();
    let debug = format!("{loaded:?}{:#?}{:?}", loaded.config, loaded.config.kafka.settings_now());
    assert!(debug.contains("sasl.password") && debug.contains("sasl.oauthbearer.config"), "{debug}");
    clean("Debug", debug.as_bytes());
}

/// Everything below a folder, the folder too, nothing behind links.
fn below(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![folder.to_owned()];
    let mut next = 0;
    while let Some(path) = found.get(next).cloned() {
        next += 1;
        if path.symlink_metadata().unwrap().is_dir() {
            found.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    found
}

#[track_caller]
fn private(path: &Path) {
    let metadata = path.symlink_metadata().unwrap();
    let wanted = if metadata.is_dir() { 0o700 } else { 0o600 };
    assert_eq!(metadata.permissions().mode() & 0o7777, wanted, "{}", path.display());
}

/// The program under a umask that takes nothing away.
fn unmasked(arguments: impl IntoIterator<Item = OsString>) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "umask 0; exec \"$0\" \"$@\"", BINARY]).args(arguments).stdin(Stdio::null());
    command.env("CASSANDRA_CDC_NO_TOPIC_LIMITS", "1");
    command
}

#[test]
fn what_the_agent_writes_is_its_users_alone_whatever_the_umask() {
    let place = Place::new();
    // Damage: salvaged bytes go to the quarantine, and a gap record names them.
    let segment = place.laid.largest();
    let mut bytes = fs::read(&segment).unwrap();
    bytes[30_000] ^= 0xff;
    fs::write(&segment, bytes).unwrap();
    let mut command = unmasked(args!["run", "--once", "--config", place.config()]);
    let ran: Ran = command.env("CREDENTIALS_DIRECTORY", place.laid.file("credentials")).output().unwrap().into();
    assert!(matches!(ran.code, Some(1 | 65)), "{:?}: {}", ran.code, ran.err);
    let state = place.laid.file("state");
    let written = below(&state);
    written.iter().for_each(|path| private(path));
    let names: BTreeSet<&str> = written.iter().filter_map(|path| path.strip_prefix(&state).ok()?.to_str()).collect();
    for name in ["checkpoint.a", "checkpoint.b", "schema.json", "partitions.json"] {
        assert!(names.contains(name), "{name} is missing in {names:?}");
    }
    for folder in ["gaps/", "quarantine/"] {
        assert!(names.iter().any(|name| name.starts_with(folder)), "nothing in {folder}: {names:?}");
    }
    private(&place.laid.file("cdc_spool"));

    let (lines, resume) = (place.laid.file("lines"), place.laid.file("resume.json"));
    let fresh = Laid::own("4.1-demo");
    let kafka = args!["--bootstrap", place.kafka.bootstrap(), "--resume", resume].to_vec();
    for sink in [args!["--sink", "file", "--output", lines].to_vec(), kafka] {
        let ran: Ran = unmasked(fresh.replay_of(&fresh.raw()).into_iter().chain(sink)).output().unwrap().into();
        ran.expect(0);
    }
    [&lines, &resume].into_iter().for_each(|path| private(path));
}
