//! A door in front of a broker: a producer's batches pass it, and a test says which of them are refused, and with what.
//!
//! Owns: as much of the protocol as that takes, and the look at sequence numbers by which a broker lets nothing of a
//! partition pass a refused batch; the in-process broker does not look. Does not own: the broker.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use openssl::asn1::Asn1Time;
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::rsa::Rsa;
use openssl::ssl::{SslAcceptor, SslMethod};
use openssl::x509::X509;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

/// The version of requests that is understood here.
const VERSION: i16 = 7;
const PRODUCE: i16 = 0;

/// Records of one partition, as they are about to reach the broker.
#[derive(Debug, Clone)]
pub struct Batch {
    pub topic: String,
    pub partition: i32,
    /// How many.
    pub count: i32,
    records: Vec<u8>,
    producer: (i64, i16),
    sequence: i32,
    correlation: [u8; 4],
}

impl Batch {
    /// Whether a text stands in it: only where nothing is compressed.
    pub fn holds(&self, text: &str) -> bool {
        self.records.windows(text.len()).any(|window| window == text.as_bytes())
    }
}

type Rule = Box<dyn FnMut(&Batch) -> Option<RDKafkaRespErr> + Send>;

struct Shared {
    broker: String,
    port: u16,
    rule: Mutex<Rule>,
    /// The sequence number that comes next, for each producer and partition.
    next: Mutex<HashMap<(i64, i16, String, i32), i32>>,
    open: Mutex<Vec<TcpStream>>,
    /// A certificate that nobody trusts: with it the door talks TLS, and nobody comes in.
    tls: Mutex<Option<SslAcceptor>>,
    ended: AtomicBool,
}

/// The door. It closes with this value.
pub struct Front {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Front {
    /// In front of a broker that nobody has talked to yet. Everything passes.
    pub fn of(cluster: &MockCluster<'static, DefaultProducerContext>) -> Self {
        cluster.apiversion(RDKafkaApiKey::Produce, Some(0), Some(VERSION)).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let shared = Arc::new(Shared {
            broker: cluster.bootstrap_servers(),
            port: listener.local_addr().unwrap().port(),
            rule: Mutex::new(Box::new(|_| None)),
            next: Mutex::default(),
            open: Mutex::default(),
            tls: Mutex::default(),
            ended: AtomicBool::new(false),
        });
        let thread = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                for client in listener.incoming() {
                    if shared.ended.load(Ordering::Relaxed) {
                        return;
                    }
                    let (client, shared) = (client.unwrap(), Arc::clone(&shared));
                    lock(&shared.open).push(client.try_clone().unwrap());
                    // Whichever side goes away, the other one sees it.
                    std::thread::spawn(move || serve(client, &shared));
                }
            }
        });
        Self { shared, thread: Some(thread) }
    }

    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.shared.port)
    }

    /// From now on this rule says with which error a batch is refused.
    pub fn refuse(&self, rule: impl FnMut(&Batch) -> Option<RDKafkaRespErr> + Send + 'static) {
        *lock(&self.shared.rule) = Box::new(rule);
    }
}

impl Front {
    /// Talks TLS, with a certificate that nobody trusts.
    pub fn talk_tls(&self) {
        let key = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
        let mut certificate = X509::builder().unwrap();
        certificate.set_pubkey(&key).unwrap();
        certificate.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
        certificate.set_not_after(&Asn1Time::days_from_now(1).unwrap()).unwrap();
        certificate.sign(&key, MessageDigest::sha256()).unwrap();
        let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).unwrap();
        acceptor.set_private_key(&key).unwrap();
        acceptor.set_certificate(&certificate.build()).unwrap();
        *lock(&self.shared.tls) = Some(acceptor.build());
    }

    /// Talks as brokers do without TLS.
    pub fn talk_plainly(&self) {
        *lock(&self.shared.tls) = None;
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        for stream in lock(&self.shared.open).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        drop(TcpStream::connect(("127.0.0.1", self.shared.port)));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One request after the other, each with its answer, until either side hangs up.
fn serve(mut client: TcpStream, shared: &Shared) -> io::Result<()> {
    if let Some(acceptor) = lock(&shared.tls).clone() {
        // Whoever looks at the certificate goes away by himself.
        let _ = acceptor.accept(client);
        return Ok(());
    }
    let mut broker = TcpStream::connect(&shared.broker)?;
    loop {
        let request = read_frame(&mut client)?;
        let batch = (request[..2] == PRODUCE.to_be_bytes()).then(|| parse(&request));
        let refused = batch.as_ref().and_then(|batch| shared.refused(batch));
        let answer = match (&batch, refused) {
            (Some(batch), Some(code)) => refusal(batch, code),
            _ => {
                write_frame(&mut broker, &request)?;
                let answer = read_frame(&mut broker)?;
                if let Some(batch) = &batch {
                    shared.passed(batch, &answer);
                }
                shared.readdress(answer)
            }
        };
        write_frame(&mut client, &answer)?;
    }
}

fn read_frame(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut frame = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut frame)?;
    Ok(frame)
}

fn write_frame(stream: &mut TcpStream, frame: &[u8]) -> io::Result<()> {
    stream.write_all(&[&(frame.len() as u32).to_be_bytes(), frame].concat())
}

impl Shared {
    fn refused(&self, batch: &Batch) -> Option<i16> {
        let expected = lock(&self.next).get(&batch.stream()).copied().unwrap_or(0);
        let code = match batch.sequence {
            sequence if sequence < expected => Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_DUPLICATE_SEQUENCE_NUMBER),
            sequence if sequence > expected => Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER),
            _ => (lock(&self.rule))(batch),
        };
        code.map(|code| i16::try_from(code as i32).expect("a broker's code"))
    }

    /// What the broker has taken is not taken again.
    fn passed(&self, batch: &Batch, answer: &[u8]) {
        // Behind the correlation id, two lengths, the topic's name and the partition.
        let at = 4 + 4 + 2 + batch.topic.len() + 4 + 4;
        if answer[at..at + 2] == [0, 0] {
            lock(&self.next).insert(batch.stream(), batch.sequence + batch.count);
        }
    }

    /// Brokers tell where they are, and clients go there: here.
    fn readdress(&self, mut answer: Vec<u8>) -> Vec<u8> {
        let (host, port) = self.broker.split_once(':').expect("host and port");
        let address = |port: u16| [host.as_bytes(), &u32::from(port).to_be_bytes()].concat();
        let (theirs, ours) = (address(port.parse().unwrap()), address(self.port));
        let at: Vec<usize> =
            answer.windows(theirs.len()).enumerate().filter(|(_, w)| *w == theirs).map(|(at, _)| at).collect();
        for at in at {
            answer[at..at + ours.len()].copy_from_slice(&ours);
        }
        answer
    }
}

impl Batch {
    fn stream(&self) -> (i64, i16, String, i32) {
        (self.producer.0, self.producer.1, self.topic.clone(), self.partition)
    }
}

/// What is left of a request.
struct Rest<'r>(&'r [u8]);

impl<'r> Rest<'r> {
    fn take(&mut self, length: usize) -> &'r [u8] {
        let (taken, rest) = self.0.split_at(length);
        self.0 = rest;
        taken
    }

    fn int16(&mut self) -> i16 {
        i16::from_be_bytes(self.take(2).try_into().unwrap())
    }

    fn int32(&mut self) -> i32 {
        i32::from_be_bytes(self.take(4).try_into().unwrap())
    }

    /// Behind its length; minus one: none.
    fn text(&mut self) -> &'r str {
        let length = usize::try_from(self.int16()).unwrap_or(0);
        std::str::from_utf8(self.take(length)).unwrap()
    }
}

/// A Produce request. librdkafka sends those of one partition in one.
fn parse(request: &[u8]) -> Batch {
    let mut rest = Rest(request);
    rest.take(2);
    assert_eq!(rest.int16(), VERSION);
    let correlation = rest.take(4).try_into().unwrap();
    let _client = rest.text();
    let _transaction = rest.text();
    assert_eq!(rest.int16(), -1, "acks=all");
    let _timeout = rest.int32();
    assert_eq!(rest.int32(), 1, "topics");
    let topic = rest.text().to_owned();
    assert_eq!(rest.int32(), 1, "partitions");
    let partition = rest.int32();
    let length = usize::try_from(rest.int32()).unwrap();
    let records = rest.take(length).to_vec();
    // The header of a record batch, which ends with these.
    let mut header = Rest(&records[43..]);
    let producer = (i64::from_be_bytes(header.take(8).try_into().unwrap()), header.int16());
    let (sequence, count) = (header.int32(), header.int32());
    Batch { topic, partition, count, records, producer, sequence, correlation }
}

/// The answer that this batch is refused.
fn refusal(batch: &Batch, code: i16) -> Vec<u8> {
    let one = 1_i32.to_be_bytes();
    let mut answer = [&batch.correlation[..], &one].concat();
    answer.extend_from_slice(&(batch.topic.len() as i16).to_be_bytes());
    answer.extend_from_slice(batch.topic.as_bytes());
    answer.extend_from_slice(&one);
    answer.extend_from_slice(&batch.partition.to_be_bytes());
    answer.extend_from_slice(&code.to_be_bytes());
    // Offset, time, first offset: none. Then the throttle.
    answer.extend_from_slice(&[0xff; 24]);
    answer.extend_from_slice(&[0; 4]);
    answer
}
