//! Every command as a user types it: what it prints where, how it ends, and what it says to bad input.
//!
//! Does not own: what is in events (`rendered`), damaged bytes (`damage`), the options of a replay (`replay`).

mod support;

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::load::own_case;
use support::oracle;
use support::{BINARY, Laid, Ran, program, run};

const COMMANDS: [&str; 6] = ["demo", "replay", "inspect", "schema", "completions", "man"];

/// Nothing on stdout, a message that holds these words, this exit code.
#[track_caller]
fn refused(ran: &Ran, code: i32, words: &[&str]) {
    assert_eq!(ran.code, Some(code), "{}", ran.err);
    assert!(ran.out.is_empty(), "{}", ran.text());
    for word in words {
        assert!(ran.err.contains(word), "no {word:?} in {}", ran.err);
    }
}

fn json(ran: &Ran) -> Value {
    serde_json::from_slice(&ran.out).unwrap_or_else(|error| panic!("{error}: {}", ran.text()))
}

#[test]
fn help_is_there_for_every_command() {
    let all = run(["--help"]).expect(0);
    for command in COMMANDS {
        assert!(all.text().contains(&format!("\n  {command} ")), "{command}");
        let one = run([command, "--help"]).expect(0);
        assert!(one.text().contains("Usage: ") && one.err.is_empty(), "{command}");
    }
    for command in ["pull", "show", "diff"] {
        assert!(run(["schema", command, "--help"]).expect(0).text().contains("Usage: "));
    }
    let version = run(["--version"]).expect(0);
    assert_eq!(version.text().trim(), format!("cassandra-cdc {}", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_wrong_command_line_is_a_usage_error() {
    for arguments in [vec![], vec!["publish"], vec!["replay"], vec!["inspect"], vec!["schema"], vec!["demo", "--fast"]]
    {
        let ran = run(&arguments);
        assert_eq!(ran.code, Some(2), "{arguments:?}: {}", ran.err);
        assert!(ran.out.is_empty() && ran.err.contains("Usage: "), "{arguments:?}: {}", ran.err);
    }
}

#[test]
fn completions_and_the_manual_page_name_every_command() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = run(["completions", shell]).expect(0);
        for command in COMMANDS {
            assert!(script.text().contains(command), "{command} for {shell}");
        }
        assert!(script.text().contains("max-record-bytes"), "{shell}");
    }
    let bash = Command::new("bash").arg("-c").arg(format!("source <({BINARY} completions bash)")).status().unwrap();
    assert!(bash.success());
    refused(&run(["completions", "tcsh"]), 2, &["tcsh", "bash"]);
    let page = run(["man"]).expect(0);
    assert!(page.text().starts_with(".ie") || page.text().contains(".TH cassandra-cdc"));
    for command in COMMANDS {
        assert!(page.text().contains(&format!("cassandra\\-cdc\\-{command}")), "{command}");
    }
}

#[test]
fn schema_show_lists_tables_in_every_form() {
    let file = own_case("4.1-demo").folder.join("schema.json");
    let show =
        |more: &[&str]| run(args!["schema", "show", file].into_iter().chain(more.iter().map(Into::into))).expect(0);
    let table = show(&["--table", "shop.*"]);
    for words in ["shop.customers", "shop.orders", "shop.inventory", "shop.sessions", "device text clustering"] {
        assert!(table.text().contains(words), "no {words:?} in {}", table.text());
    }
    assert!(!table.text().contains("system_schema"));
    assert!(show(&[]).text().contains("system_schema.tables"));

    let all = json(&show(&["-o", "json"]));
    let lines = show(&["-o", "jsonl"]).events();
    assert_eq!(all.as_array(), Some(&lines));
    let orders = json(&show(&["-o", "json", "--table", "shop.orders"]));
    let orders = orders.as_array().unwrap();
    assert_eq!(orders.len(), 1);
    assert_eq!(
        (&orders[0]["keyspace"], &orders[0]["table"], &orders[0]["cdc"]),
        (&"shop".into(), &"orders".into(), &true.into())
    );
    let total = serde_json::json!({"name": "total", "type": "decimal", "kind": "regular"});
    assert!(orders[0]["columns"].as_array().unwrap().contains(&total));
    let others = show(&["-o", "jsonl", "--table", "shop.*", "--table", "!shop.orders"]).events();
    let names: Vec<&str> = others.iter().map(|table| table["table"].as_str().unwrap()).collect();
    assert_eq!(names, ["customers", "inventory", "sessions"]);
}

#[test]
fn schema_show_refuses_what_names_no_table() {
    let file = own_case("4.1-demo").folder.join("schema.json");
    let show = |pattern: &str| run(args!["schema", "show", file, "--table", pattern]);
    refused(&show("shop.order"), 1, &["no table matches", "shop.order"]);
    refused(&show("shop"), 2, &["\"shop\"", "keyspace.table"]);
}

#[test]
fn schema_diff_tells_what_changed() {
    let case = own_case("4.1-schema");
    let (before, after) = (case.folder.join("schema-before-1.json"), case.folder.join("schema.json"));
    let same = run(args!["schema", "diff", after, after]).expect(0);
    assert!(same.out.is_empty());
    let forth = run(args!["schema", "diff", before, after]).expect(1);
    let back = run(args!["schema", "diff", after, before]).expect(1);
    // `phoenix` was dropped and made again: another table under the same name.
    for sign in ["- drift.phoenix ", "+ drift.phoenix "] {
        assert_eq!(forth.lines().iter().filter(|line| line.starts_with(sign)).count(), 1, "{}", forth.text());
    }
    let turned = |ran: &Ran, turn: bool| -> BTreeSet<String> {
        let lines = ran.lines().into_iter().filter(|line| !line.starts_with('~'));
        let sign = |line: &str| match (turn, line.split_at(1)) {
            (true, ("-", rest)) => format!("+{rest}"),
            (true, ("+", rest)) => format!("-{rest}"),
            _ => line.to_owned(),
        };
        lines.map(sign).collect()
    };
    assert_eq!(turned(&forth, false), turned(&back, true));
}

#[test]
fn inspect_shows_segments_in_every_form() {
    let laid = Laid::own("4.1-demo");
    let expected = oracle::read(&own_case("4.1-demo").folder.join("expected.jsonl.gz"));
    let entries = expected.mutations.len();
    let inspect =
        |more: &[&str]| run(args!["inspect", laid.raw()].into_iter().chain(more.iter().map(Into::into))).expect(0);
    let count = |items: &[Value], kind: &str| items.iter().filter(|item| item["type"] == kind).count();
    let schema = laid.schema.to_str().unwrap().to_owned();

    let bare = inspect(&["-o", "jsonl"]).events();
    assert_eq!((count(&bare, "segment"), count(&bare, "entry"), count(&bare, "end")), (3, entries, 3));
    assert_eq!(count(&bare, "section"), expected.sections.values().map(Vec::len).sum::<usize>());
    assert_eq!(json(&inspect(&["-o", "json"])).as_array(), Some(&bare));

    let full = inspect(&["-o", "jsonl", "--schema", &schema]).events();
    let updates: Vec<&Value> = full
        .iter()
        .filter(|item| item["type"] == "entry")
        .flat_map(|item| item["updates"].as_array().unwrap())
        .collect();
    assert_eq!(updates.len(), expected.mutations.iter().map(|mutation| mutation.updates.len()).sum::<usize>());
    // Without a schema file the log tells; what a node wrote before its tables were told is not shown.
    let changes_of = |items: &[Value]| -> Vec<Value> {
        let updates = items.iter().filter(|item| item["type"] == "entry").map(|item| item["updates"].clone());
        updates.filter(|updates| updates[0]["keyspace"] == "shop").collect()
    };
    assert!(!changes_of(&full).is_empty() && changes_of(&bare) == changes_of(&full));
    // What is shown of a change is the event that a replay publishes.
    let shown: Vec<&&Value> =
        updates.iter().filter(|update| update["keyspace"] == "shop" && update["table"] != "sessions").collect();
    let replayed = laid.replay::<&str>([]).events();
    assert!(shown.iter().map(|shown| **shown).eq(replayed.iter()));

    let text = inspect(&["--schema", &schema]);
    assert!(text.text().contains("version 7, plain") && text.text().contains("shop.orders {"));
    let hex = inspect(&["-o", "hex", "--limit", "2"]);
    assert_eq!(hex.lines().iter().filter(|line| line.starts_with("  entry ")).count(), 4);
    assert!(hex.text().contains("    00000000  "));
}

#[test]
fn inspect_shows_only_what_is_asked_for() {
    let laid = Laid::own("4.1-demo");
    let inspect = |more: &[&str]| {
        let ran = run(args!["inspect", laid.raw(), "-o", "jsonl", "--schema", laid.schema]
            .into_iter()
            .chain(more.iter().map(Into::into)));
        let items = ran.expect(0).events();
        items.into_iter().filter(|item| item["type"] == "entry").collect::<Vec<Value>>()
    };
    assert_eq!(inspect(&["--limit", "3"]).len(), 6);
    assert_eq!(inspect(&["--limit", "0"]).len(), 0);
    let orders = inspect(&["--table", "shop.orders"]);
    assert_eq!(orders.len(), 24);
    assert!(
        orders.iter().all(|entry| entry["updates"]
            .as_array()
            .unwrap()
            .iter()
            .all(|update| update["table"] == "orders"))
    );
    assert_eq!(inspect(&["--table", "shop.orders", "--limit", "5"]).len(), 10);
    let alone = run(args!["inspect", laid.raw(), "-o", "jsonl", "--table", "shop.orders"]).expect(0).events();
    assert_eq!(alone.into_iter().filter(|item| item["type"] == "entry").collect::<Vec<_>>(), orders);
    // Entries that are not shown still tell the schema of those that are.
    let ddl = inspect(&["--table", "system_schema.tables", "--limit", "1"]);
    assert_eq!(ddl.len(), 1);
}

#[test]
fn inspect_shows_as_much_as_possible_of_a_damaged_file() {
    let laid = Laid::own("4.1-demo");
    let path = laid.largest();
    let mut bytes = fs::read(&path).unwrap();
    bytes[48_000] ^= 1;
    fs::write(&path, bytes).unwrap();
    let good = Laid::own("4.1-demo");
    let count = |ran: &Ran| ran.events().iter().filter(|item| item["type"] == "entry").count();
    let whole = count(&run(args!["inspect", "-o", "jsonl", good.largest()]).expect(0));
    let damaged = run(args!["inspect", "-o", "jsonl", path]).expect(65);
    assert_eq!(count(&damaged), whole - 1);
    assert!(damaged.events().iter().any(|item| item["type"] == "damage"));
    assert!(damaged.err.contains("checksum mismatch"), "{}", damaged.err);

    fs::write(&path, b"no segment at all").unwrap();
    for form in ["table", "json", "jsonl", "hex"] {
        let ran = run(args!["inspect", "-o", form, path]).expect(65);
        assert!(ran.err.contains("CommitLog-7-"), "{}", ran.err);
        if form == "json" {
            assert!(json(&ran).is_array());
        }
    }
}

#[test]
fn inspect_ends_well_when_its_reader_goes() {
    let laid = Laid::own("4.1-demo");
    let mut child = program()
        .args(args!["inspect", "-o", "hex", laid.raw()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("CommitLog-7-"));
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert_eq!((child.wait().unwrap().code(), err.as_str()), (Some(0), ""));
}

#[test]
fn every_command_ends_well_when_its_reader_goes() {
    let laid = Laid::own("4.1-demo");
    let schema = own_case("4.1-demo").folder.join("schema.json");
    for arguments in [
        args!["schema", "show", schema].to_vec(),
        args!["schema", "diff", schema, own_case("5.0-types").folder.join("schema.json")].to_vec(),
        args!["completions", "bash"].to_vec(),
        args!["man"].to_vec(),
        args!["replay", "--sink", "stdout", "--schema", laid.schema, laid.raw()].to_vec(),
    ] {
        // The reader is gone before the first byte.
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = program().args(&arguments).stdout(writer).output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {err}");
        assert!(!err.contains("panicked") && !err.contains("pipe"), "{arguments:?}: {err}");
    }
}

#[test]
fn demo_prints_the_events_of_its_recorded_segments_and_nothing_else() {
    let demo = run(["demo"]).expect(0);
    assert_eq!(demo.err, "");
    let expected = oracle::read(&own_case("4.1-demo").folder.join("expected.jsonl.gz"));
    let changes: usize = expected.mutations.iter().map(|mutation| mutation.published().count()).sum();
    assert_eq!(demo.lines().len(), changes);

    let laid = Laid::own("4.1-demo");
    let strip = |mut event: Value, prefix: &str| {
        let id = event["id"]
            .as_str()
            .unwrap()
            .strip_prefix(prefix)
            .unwrap_or_else(|| panic!("id {}", event["id"]))
            .to_owned();
        event["id"] = id.into();
        event["source"].as_object_mut().unwrap().retain(|name, _| name == "segment" || name == "position");
        event.to_string()
    };
    let shown: BTreeSet<String> =
        demo.events().into_iter().map(|event| strip(event, "demo/00000000-0000-0000-0000-000000000000/")).collect();
    let replayed: BTreeSet<String> =
        laid.replay::<&str>([]).expect(0).events().into_iter().map(|event| strip(event, "unknown/unknown/")).collect();
    assert_eq!(shown.len(), changes);
    assert!(shown == replayed);
}

/// Arguments of a replay that would work, with something else in the place of one of them.
fn replay(laid: &Laid, path: &Path, more: &[&str]) -> Ran {
    let arguments = laid.replay_of(path);
    run(arguments.into_iter().chain(["--sink".into(), "stdout".into()]).chain(more.iter().map(Into::into)))
}

#[test]
fn paths_that_cannot_be_read_are_named() {
    let laid = Laid::own("4.1-demo");
    let missing = laid.raw().join("CommitLog-7-1.log");
    for command in ["replay", "inspect"] {
        let of = |path: &Path| match command {
            "replay" => replay(&laid, path, &[]),
            _ => run(args!["inspect", path]),
        };
        refused(&of(&missing), 74, &["CommitLog-7-1.log", "No such file"]);
        refused(&of(&laid.file("nowhere")), 74, &["nowhere", "No such file"]);
        let empty = laid.file("empty");
        fs::create_dir_all(&empty).unwrap();
        refused(&of(&empty), 1, &["no commit-log segments", "cdc_raw"]);
        let notes = laid.file("notes.txt");
        fs::write(&notes, "notes").unwrap();
        refused(&of(&notes), 65, &["notes.txt"]);
        let future = laid.file("CommitLog-42-1.log");
        fs::copy(laid.largest(), &future).unwrap();
        refused(&of(&future), 65, &["CommitLog-42-1.log", "unknown commit-log version 42"]);
    }
}

/// Runs the program without the right to read what its user may not read. Root has that right in any case, and gives it
/// up with util-linux's `setpriv`.
fn run_unprivileged(arguments: &[std::ffi::OsString], forbidden: &Path) -> Ran {
    let is_root = fs::File::open(forbidden).is_ok();
    let mut command = if is_root { Command::new("setpriv") } else { Command::new(BINARY) };
    if is_root {
        command.arg("--bounding-set=-dac_override,-dac_read_search").arg(BINARY);
    }
    command.args(arguments).output().expect("setpriv, where root runs the tests").into()
}

#[test]
fn a_missing_permission_has_its_own_exit_code() {
    let laid = Laid::own("4.1-demo");
    let segment = laid.largest();
    let mut arguments = laid.replay_of(&laid.raw());
    arguments.extend(["--sink".into(), "stdout".into()]);
    fs::set_permissions(&segment, Permissions::from_mode(0o000)).unwrap();
    let ran = run_unprivileged(&arguments, &segment);
    let name = segment.file_name().unwrap().to_str().unwrap();
    refused(&ran, 77, &[name, "Permission denied"]);
    let ran = run_unprivileged(&args!["inspect", segment], &segment);
    refused(&ran, 77, &[name, "Permission denied"]);
    fs::set_permissions(&segment, Permissions::from_mode(0o600)).unwrap();

    let folder = laid.raw();
    fs::set_permissions(&folder, Permissions::from_mode(0o000)).unwrap();
    let ran = run_unprivileged(&arguments, &segment);
    fs::set_permissions(&folder, Permissions::from_mode(0o700)).unwrap();
    refused(&ran, 77, &["cdc_raw", "Permission denied"]);

    let schema = laid.file("schema.json");
    fs::copy(&laid.schema, &schema).unwrap();
    fs::set_permissions(&schema, Permissions::from_mode(0o000)).unwrap();
    let ran = run_unprivileged(&args!["replay", "--sink", "stdout", "--schema", schema, folder], &schema);
    refused(&ran, 77, &["schema.json", "Permission denied"]);
}

#[test]
fn schema_files_of_no_use_are_refused() {
    let mut laid = Laid::own("4.1-demo");
    for (text, words) in [
        (None, ["schema.json", "No such file"]),
        (Some(""), ["schema.json", "line 1"]),
        (Some("{\"tables\": [}"), ["schema.json", "line 1"]),
        (Some("[1, 2]"), ["schema.json", "schema pull"]),
        (Some("{}"), ["schema.json", "no rows of system_schema.tables"]),
        (Some("{\"tables\":[],\"columns\":[]}"), ["schema.json", "no rows of system_schema.tables"]),
    ] {
        laid.schema = laid.file("schema.json");
        if let Some(text) = text {
            fs::write(&laid.schema, text).unwrap();
        }
        refused(&replay(&laid, &laid.raw(), &[]), 78, &words);
        refused(&run(args!["inspect", laid.raw(), "--schema", laid.schema]), 78, &words);
        refused(&run(args!["schema", "show", laid.schema]), 78, &words);
        refused(&run(args!["schema", "diff", laid.schema, laid.schema]), 78, &words);
    }
}

#[test]
fn a_replay_refuses_bad_bounds_and_patterns() {
    let laid = Laid::own("4.1-demo");
    let replay = |more: &[&str]| replay(&laid, &laid.raw(), more);
    refused(&replay(&["--table", "shop.order"]), 78, &["no table matches", "shop.order"]);
    refused(&replay(&["--table", "nowhere.*"]), 78, &["no table matches", "nowhere.*"]);
    refused(&replay(&["--table", "orders"]), 2, &["\"orders\"", "keyspace.table"]);
    refused(&replay(&["--from", "yesterday"]), 2, &["yesterday", "RFC 3339"]);
    refused(&replay(&["--to", "17:x"]), 2, &["17:x", "id:position"]);
    refused(&replay(&["--key", "{customer"]), 2, &["--key", "JSON"]);
    refused(&replay(&["--rate", "0"]), 2, &["--rate"]);
    refused(&replay(&["--max-record-bytes", "100"]), 2, &["at least 4096"]);
    refused(&replay(&["--topic", "{keyspaces}"]), 2, &["keyspaces"]);
    refused(&replay(&["--partitions", "3"]), 2, &["--envelope"]);
    refused(&replay(&["--int64", "float"]), 2, &["float", "string"]);
    let resume = laid.file("resume.json");
    fs::write(&resume, "place").unwrap();
    refused(&replay(&["--resume", resume.to_str().unwrap()]), 78, &["resume.json", "remove it"]);
    assert_eq!(fs::read(&resume).unwrap(), b"place");
    // A place means something to the same replay of the same segments only.
    fs::remove_file(&resume).unwrap();
    replay(&["--resume", resume.to_str().unwrap()]).expect(0);
    refused(&replay(&["--resume", resume.to_str().unwrap(), "--unit", "row"]), 2, &["resume.json", "other options"]);
    let first = &laid.segments()[0];
    let arguments = laid.replay_of(first).into_iter().chain(args!["--sink", "stdout", "--resume", resume]);
    refused(&run(arguments), 2, &["CommitLog-7-", "same paths"]);
    refused(&replay(&["--from", "9", "--to", "5"]), 2, &["--from", "--to"]);
}

#[test]
fn a_file_that_exists_is_not_written_over() {
    let laid = Laid::own("4.1-demo");
    let file = laid.file("events.jsonl");
    let to_file =
        |file: &Path| run(laid.replay_of(&laid.raw()).into_iter().chain(args!["--sink", "file", "--output", file]));
    fs::write(&file, "mine").unwrap();
    refused(&to_file(&file), 74, &["events.jsonl", "exists"]);
    assert_eq!(fs::read(&file).unwrap(), b"mine");
    refused(&to_file(&laid.file("nowhere/events.jsonl")), 74, &["nowhere", "No such file"]);
    refused(&run(laid.replay_of(&laid.raw()).into_iter().chain(["--sink".into(), "file".into()])), 2, &["--output"]);

    fs::remove_file(&file).unwrap();
    assert!(to_file(&file).expect(0).out.is_empty());
    assert_eq!(fs::read(&file).unwrap(), laid.replay::<&str>([]).out);
}

#[test]
fn nothing_is_left_behind_by_a_replay_that_is_refused() {
    let mut laid = Laid::own("4.1-demo");
    let file = laid.file("events.jsonl");
    laid.schema = laid.file("no-schema.json");
    let ran = run(laid.replay_of(&laid.raw()).into_iter().chain(args!["--sink", "file", "--output", file]));
    refused(&ran, 78, &["no-schema.json"]);
    assert!(!file.exists());
}

#[test]
fn kafka_options_that_break_a_promise_are_refused_by_name() {
    let laid = Laid::own("4.1-demo");
    let kafka = |more: &[&str]| {
        let more = more.iter().map(Into::into);
        run(laid.replay_of(&laid.raw()).into_iter().chain(args!["--bootstrap", "127.0.0.1:1"]).chain(more))
    };
    refused(&kafka(&["--property", "acks=1"]), 78, &["acks", "all"]);
    refused(&kafka(&["-X", "enable.idempotence=false"]), 78, &["enable.idempotence"]);
    refused(&kafka(&["-X", "message.timeout.ms=1000"]), 78, &["message.timeout.ms"]);
    refused(&kafka(&["-X", "partitioner=random"]), 78, &["partitioner", "murmur2"]);
    refused(&kafka(&["-X", "no.such.property=1"]), 78, &["no.such.property"]);
    refused(&kafka(&["-X", "linger.ms"]), 2, &["--property", "NAME=VALUE"]);
    // Everybody can read a command line.
    let ran = kafka(&["-X", "sasl.password=hunter2"]);
    refused(&ran, 2, &["sasl.password", "--properties-file"]);
    assert!(!ran.err.contains("hunter2"));
    refused(&kafka(&["--create-topics", "many"]), 2, &["many", "PARTITIONS,REPLICATION"]);
    refused(&kafka(&["--create-topics", "0,1"]), 2, &["0,1"]);
    let file = laid.file("properties");
    fs::write(&file, "# a comment\nsasl.password hunter2\n").unwrap();
    let ran = kafka(&["--properties-file", file.to_str().unwrap()]);
    refused(&ran, 2, &["properties", "NAME=VALUE"]);
    assert!(!ran.err.contains("hunter2"));
    refused(&run(laid.replay_of(&laid.raw())), 78, &["bootstrap", "host:port"]);
}

#[test]
fn a_broker_that_is_not_there_is_named_in_time() {
    let laid = Laid::own("4.1-demo");
    let started = Instant::now();
    // Nothing listens on the port of a listener that is gone.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let ran = run(laid.replay_of(&laid.raw()).into_iter().chain(args!["--bootstrap", address]));
    refused(&ran, 69, &[&address]);
    // It waits ten seconds for a broker that may be starting; the rest is for a busy machine.
    assert!(started.elapsed() < Duration::from_secs(40));
}

#[test]
fn encrypted_segments_need_their_key() {
    let laid = Laid::own("4.1-encrypted");
    let case = own_case("4.1-encrypted");
    let good = laid.replay::<&str>([]).expect(0);
    let with = |more: &[std::ffi::OsString]| {
        let plain = args!["replay", "--sink", "stdout", "--schema", laid.schema, laid.raw()];
        run(plain.iter().chain(more))
    };
    refused(&with(&[]), 78, &["testing:1", "--keystore"]);
    refused(&run(args!["inspect", laid.raw()]), 78, &["testing:1", "--keystore"]);
    let (right, wrong) = (laid.file("right"), laid.file("wrong"));
    fs::write(&right, "cassandra\n").unwrap();
    fs::write(&wrong, "hunter2\n").unwrap();
    for store in ["tde.keystore", "tde.p12"] {
        let store = case.folder.join(store);
        let ran = with(&args!["--keystore", store, "--keystore-password-file", right]).expect(0);
        assert!(ran.out == good.out);
        let ran = with(&args!["--keystore", store, "--keystore-password-file", wrong]);
        refused(&ran, 78, &[store.file_name().unwrap().to_str().unwrap()]);
        assert!(!ran.err.contains("hunter2"), "{}", ran.err);
    }
    refused(&with(&args!["--keystore", case.folder.join("tde.keystore")]), 2, &["--keystore-password-file"]);
    let missing = laid.file("missing");
    refused(
        &with(&args!["--keystore", case.folder.join("tde.keystore"), "--keystore-password-file", missing]),
        74,
        &["missing"],
    );
    refused(&with(&args!["--keystore", missing, "--keystore-password-file", right]), 78, &["missing", "No such file"]);
    fs::write(&missing, "0123").unwrap();
    refused(&with(&args!["--key-file", missing]), 78, &["missing", "AES"]);
    // A key of the right length that is another key: what it decrypts makes no sense.
    fs::write(&missing, "00112233445566778899aabbccddeeff").unwrap();
    let ran = with(&args!["--key-file", missing]).expect(65);
    assert!(ran.out.is_empty() && ran.err.contains("encrypted chunk"), "{}", ran.err);
}
