mod common;
use cassandra_commitlog::{Liveness, Native};
use cassandra_event::*;
use common::model::*;
use common::*;
use serde::{Serialize, Serializer, ser::SerializeMap};
use std::time::Instant;

struct Pairs<T>(Vec<(String, T)>);
impl<T: Serialize> Serialize for Pairs<T> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut m = s.serialize_map(Some(self.0.len()))?;
        for (k, v) in &self.0 {
            m.serialize_entry(k, v)?;
        }
        m.end()
    }
}
#[derive(Serialize)]
#[serde(untagged)]
enum V {
    I(i64),
    S(String),
    F(f64),
    B(bool),
}
#[derive(Serialize)]
struct Live {
    ts: i64,
}
#[derive(Serialize)]
struct C {
    value: V,
    ts: i64,
}
#[derive(Serialize)]
struct R {
    clustering: Pairs<V>,
    liveness: Live,
    cells: Pairs<C>,
}
#[derive(Serialize)]
struct S {
    cluster: String,
    host_id: String,
    segment: String,
    position: u32,
}
#[derive(Serialize)]
struct E {
    v: u32,
    id: String,
    digest: String,
    keyspace: String,
    table: String,
    table_id: String,
    key: Pairs<V>,
    rows: Vec<R>,
    source: S,
}

fn tov(v: &serde_json::Value) -> V {
    match v {
        serde_json::Value::Number(n) => n.as_i64().map(V::I).unwrap_or_else(|| V::F(n.as_f64().unwrap())),
        serde_json::Value::Bool(b) => V::B(*b),
        o => V::S(o.as_str().unwrap().to_owned()),
    }
}

fn spec() -> Spec {
    let t = || native(Native::Text);
    let mut table = table(
        &[("customer_id", native(Native::Uuid))],
        &[("order_id", native(Native::Bigint))],
        &[
            ("amount", native(Native::Double)),
            ("created", native(Native::Timestamp)),
            ("note", t()),
            ("quantity", native(Native::Int)),
            ("status", t()),
        ],
    );
    table.name = "orders".into();
    let mut s = Spec::new(table, &[&[0x7b; 16]]);
    let ts = 1_700_000_000_000_002i64;
    s.rows.push(RowSpec {
        clustering: vec![Some(123456789i64.to_be_bytes().to_vec())],
        liveness: Some(Liveness { timestamp: ts, expiry: None }),
        columns: vec![
            one(0, live(&129.95f64.to_be_bytes(), ts)),
            one(1, live(&1_700_000_000_123i64.to_be_bytes(), ts)),
            one(2, live(b"please leave it at the door, ring twice", ts)),
            one(3, live(&3i32.to_be_bytes(), ts)),
            one(4, live(b"shipped", ts)),
        ],
        ..Default::default()
    });
    s
}

#[test]
fn only() {
    let spec = spec(); let owned = spec.own(); let update = owned.update();
    let f = if std::env::var("FMT").as_deref() == Ok("json") { Format::Json } else { Format::Protobuf };
    let mut e = Encoder::new(settings(f)); let src = source();
    let (mut arena, mut recs) = (vec![], vec![]);
    let n: u32 = std::env::var("N").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
    let p = common::messages::event(&spec, &owned);
    let mut buf: Vec<u8> = vec![];
    if std::env::var("FMT").as_deref() == Ok("prost") {
        for i in 0..n { if i % 256 == 0 { buf.clear(); } prost::Message::encode(std::hint::black_box(&p), &mut buf).unwrap(); }
    } else {
        for i in 0..n { if i % 256 == 0 { arena.clear(); recs.clear(); } e.encode(std::hint::black_box(&update), &src, &mut arena, &mut recs); }
    }
}

#[test]
fn measure() {
    let spec = spec();
    let owned = spec.own();
    let update = owned.update();
    let json: serde_json::Value = serde_json::from_slice(encode(settings(Format::Json), &owned).value()).unwrap();
    let g = |k: &str| json[k].as_str().unwrap().to_owned();
    let names = ["amount", "created", "note", "quantity", "status"];
    let row = &json["rows"][0];
    let e = E {
        v: 1,
        id: g("id"),
        digest: g("digest"),
        keyspace: g("keyspace"),
        table: g("table"),
        table_id: g("table_id"),
        key: Pairs(vec![("customer_id".into(), tov(&json["key"]["customer_id"]))]),
        rows: vec![R {
            clustering: Pairs(vec![("order_id".into(), tov(&row["clustering"]["order_id"]))]),
            liveness: Live { ts: 1_700_000_000_000_002 },
            cells: Pairs(
                names
                    .iter()
                    .map(|n| {
                        (
                            n.to_string(),
                            C { value: tov(&row["cells"][n]["value"]), ts: row["cells"][n]["ts"].as_i64().unwrap() },
                        )
                    })
                    .collect(),
            ),
        }],
        source: S {
            cluster: "c1".into(),
            host_id: json["source"]["host_id"].as_str().unwrap().into(),
            segment: SEGMENT.into(),
            position: 62691,
        },
    };
    assert_eq!(serde_json::to_string(&e).unwrap(), encode(settings(Format::Json), &owned).text());
    let p = common::messages::event(&spec, &owned);
    let n = 200_000u32;
    let src = source();
    let mut ej = Encoder::new(settings(Format::Json));
    let mut ep = Encoder::new(settings(Format::Protobuf));
    println!(
        "json {} B proto {} B",
        encode(settings(Format::Json), &owned).value().len(),
        encode(settings(Format::Protobuf), &owned).value().len()
    );
    let (mut arena, mut recs) = (vec![], vec![]);
    let mut rows = vec![];
    for _ in 0..9 {
        let mut buf: Vec<u8> = vec![];
        let t = Instant::now();
        for i in 0..n {
            if i % 256 == 0 {
                arena.clear();
                recs.clear();
            }
            ej.encode(std::hint::black_box(&update), &src, &mut arena, &mut recs);
        }
        let a = t.elapsed() / n;
        let t = Instant::now();
        for i in 0..n {
            if i % 256 == 0 {
                buf.clear();
            }
            serde_json::to_writer(&mut buf, std::hint::black_box(&e)).unwrap();
        }
        let b = t.elapsed() / n;
        let t = Instant::now();
        for i in 0..n {
            if i % 256 == 0 {
                arena.clear();
                recs.clear();
            }
            ep.encode(std::hint::black_box(&update), &src, &mut arena, &mut recs);
        }
        let c = t.elapsed() / n;
        let t = Instant::now();
        for i in 0..n {
            if i % 256 == 0 {
                buf.clear();
            }
            prost::Message::encode(std::hint::black_box(&p), &mut buf).unwrap();
        }
        let d = t.elapsed() / n;
        rows.push((a.as_nanos(), b.as_nanos(), c.as_nanos(), d.as_nanos()));
    }
    rows.sort();
    println!("ours json, serde, ours proto, prost: {rows:?}");
    let m = rows[4];
    println!("json {:.2} proto {:.2}", m.0 as f64 / m.1 as f64, m.2 as f64 / m.3 as f64);
}
