//! Tables whose changes never come, and a node that does not answer, is another, or has another time.

use std::fs;
use std::net::TcpListener;

use serde_json::Value;

use crate::cql::Node;
use crate::place::{Place, mode_of};
use crate::tls::Authority;

fn each<'s>(schema: &'s mut Value, table: &str) -> impl Iterator<Item = &'s mut Value> {
    schema[table].as_array_mut().unwrap().iter_mut()
}

#[test]
fn tables_whose_changes_never_come() {
    let place = Place::new();
    let lines = place.check(&["cassandra.tables=shop.*,shop.nowhere"]);
    lines.say("warn", "tables", "no table matches \"shop.nowhere\"", "correct cassandra.tables");
    let lines = place.check(&["cassandra.tables=other.*"]);
    lines.say("warn", "tables", "leaves none of the 3 tables", "change cassandra.tables");
    place.schema(|schema| {
        let shop = each(schema, "keyspaces").find(|row| row["keyspace_name"] == "shop").unwrap();
        shop["durable_writes"] = false.into();
    });
    let lines = place.check::<&str>(&[]);
    lines.say(
        "fail",
        "tables",
        "nothing reaches the commit log: shop.{",
        "ALTER KEYSPACE shop WITH durable_writes = true",
    );
    lines.only(&["tables"]);
    place.schema(|schema| each(schema, "tables").for_each(|row| row["cdc"] = false.into()));
    let lines = place.check::<&str>(&[]);
    lines.say("warn", "tables", "no table has cdc = true", "ALTER TABLE");
    lines.only(&["tables"]);
}

#[test]
fn no_way_to_know_the_schema() {
    let place = Place::new();
    fs::write(place.file("schema.json"), "{").unwrap();
    place.check::<&str>(&[]).say("fail", "schema", "schema.json", "cassandra-cdc schema pull -o FILE");
    let document = fs::read_to_string(place.file("c.toml")).unwrap();
    let without: Vec<&str> =
        document.lines().filter(|line| !line.starts_with("schema") && !line.starts_with("host_id")).collect();
    fs::write(place.file("c.toml"), without.join("\n")).unwrap();
    let lines = place.check::<&str>(&[]);
    lines.say("fail", "identity", "host id and cluster are not known", "set cassandra.contact");
    lines.say("fail", "schema", "neither a node to ask nor a schema file", "set cassandra.contact");
}

#[test]
fn a_node_that_answers() {
    let place = Place::new();
    let schema = place.schema(|_| {});
    fs::remove_file(place.file("schema.json")).unwrap();
    let node = Node { schema: schema.clone(), ..Node::default() }.start(None);
    let contact = format!("cassandra.contact={}", node.address());
    let lines = place.check(&[&contact]);
    lines.say("ok", "CQL", "of cluster \"Shop\", release 4.1.10", "").say("ok", "clock", "agree", "");
    lines.say("ok", "tables", "3 to be published, of 3", "").only(&[]);
    // The contact of another node than the one whose segments these are.
    let other = "cassandra.host_id=00000000-0000-4000-8000-000000000001";
    let lines = place.check(&[&contact, other, "cassandra.cluster=Other"]);
    lines.say(
        "fail",
        "identity",
        "cassandra.host_id is \"00000000",
        "set cassandra.contact to the node of this cdc_raw",
    );
    lines.say("fail", "identity", "cassandra.cluster is \"Other\"", "or drop cassandra.cluster");
    let late = Node { schema, ahead_seconds: 90, ..Node::default() }.start(None);
    let lines = place.check(&[format!("cassandra.contact={}", late.address())]);
    lines.say("warn", "clock", "differ by ", "NTP");
    lines.only(&["clock"]);
}

#[test]
fn a_node_that_does_not_let_us_in() {
    let place = Place::new();
    let schema = place.schema(|_| {});
    let node = Node { schema, login: Some(("cdc", "right")), ..Node::default() }.start(None);
    let contact = format!("cassandra.contact={}", node.address());
    let lines = place.check(&[&contact]);
    lines.say("fail", "CQL", "", "set cassandra.user and cassandra.password_file");
    fs::write(place.file("password"), "wrong\n").unwrap();
    mode_of(&place.file("password"), 0o600);
    let login = format!("cassandra.password_file={}", place.file("password").display());
    let lines = place.check(&[&contact, "cassandra.user=cdc", &login]);
    lines.say("fail", "CQL", "password are incorrect", "correct cassandra.user, and the password in the file");
    fs::write(place.file("password"), "right\n").unwrap();
    place.check(&[&contact, "cassandra.user=cdc", &login]).only(&[]);
}

#[test]
fn a_node_that_is_not_there_or_talks_otherwise() {
    let place = Place::new();
    let schema = place.schema(|_| {});
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let lines = place.check(&[format!("cassandra.contact={free}")]);
    lines.say("fail", "CQL", "Connection refused", "start the node, or set cassandra.contact");
    let lines = place.check(&["cassandra.contact=no-such-host.invalid:9042"]);
    lines.say("fail", "CQL", "resolve the name", "correct the host in cassandra.contact");

    let (ours, theirs) = (Authority::new(), Authority::new());
    fs::write(place.file("ca.pem"), ours.pem()).unwrap();
    let ca = format!("cassandra.tls_ca={}", place.file("ca.pem").display());
    let node = |authority: Option<&Authority>| {
        Node { schema: schema.clone(), ..Node::default() }.start(authority.map(|authority| authority.server(None)))
    };
    let (plain, encrypted, foreign) = (node(None), node(Some(&ours)), node(Some(&theirs)));
    let contact = |server: &crate::server::Server| format!("cassandra.contact={}", server.address());
    place.check(&[&contact(&encrypted), &ca]).say("ok", "CQL", "of cluster", "").only(&[]);
    place.check(&[&contact(&encrypted)]).say("fail", "CQL", "", "set cassandra.tls_ca");
    place.check(&[&contact(&plain), &ca]).say("fail", "CQL", "", "drop cassandra.tls_ca");
    let lines = place.check(&[&contact(&foreign), &ca]);
    lines.say("fail", "CQL", "the node's certificate", "set cassandra.tls_ca to the certificate that signed");
}
